"""What the writers of all formats get."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.exporting.graph import FileGraph
from resnest_zoo.runtimes import Description


@dataclass
class Job:
    """One export.

    Attributes:
        graph: what is to be written.
        inputs: pictures (1, 3, H, W) uint8 and their sizes (1, 2) int64 to trace with, and to compare on; of
            several padded sizes where the file is to take any.
        description: goes into the file as `description.encode()`.
        opset: of ONNX.
        names: of the outputs, in their order.
        onnx_model: what `onnx_format.build` has made.
    """

    graph: FileGraph
    inputs: list[tuple[Tensor, Tensor]]
    description: Description
    opset: int
    names: list[str] = field(default_factory=list)
    onnx_model: Any = None

    @property
    def dynamic(self) -> bool:
        """Whether the file is to take pictures of any size."""
        return self.description.size is None

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The graph as torch.export traces it."""
        shapes = None
        if self.dynamic:
            multiple, least = self.description.multiple, self.description.least
            height, width = (torch.export.Dim(side, min=least // multiple) for side in ("height", "width"))
            shapes = ({2: multiple * height, 3: multiple * width}, None)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch and torchvision about each other
            return torch.export.export(self.graph, self.inputs[0], dynamic_shapes=shapes)
