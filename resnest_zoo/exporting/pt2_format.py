"""What `torch.export` writes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from resnest_zoo.exporting.job import Job
from resnest_zoo.runtimes.pt2_file import METADATA


def check(opset: int) -> None:
    """Nothing is needed but torch; `opset` does not matter."""


def write(job: Job, path: Path) -> None:
    """Write the file.

    Raises:
        OSError: it cannot be written.
    """
    program = job.program
    _forget_lines(program)
    with warnings.catch_warnings(), path.open("wb") as file:
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files={METADATA: json.dumps(job.description.encode())})


def _forget_lines(program: torch.export.ExportedProgram) -> None:
    """Drop what each node tells of the exporting machine: folders, and lines of the code that made it."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
