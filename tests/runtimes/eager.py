"""A file of any format, with PyTorch in the place of its runtime."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from resnest_zoo.exporting.graph import FileGraph
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.runtimes import Description, FileDetector, detector


class Eager:
    """A session that computes in PyTorch, and notes what it was given."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        self.graph = FileGraph(model)
        self.metadata: dict[str, str] = {}
        self.given: list[tuple[int, ...]] = []

    @torch.no_grad()
    def __call__(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        assert images.dtype == torch.uint8
        self.given.append((*images.shape, *image_sizes[0].tolist()))
        return self.graph(images, image_sizes)


def described(model: GeneralizedRCNN, size: tuple[int, int] | None, least: int = 32) -> Description:
    assert model.config is not None
    return Description(model.config.dump(), model.categories, size, 32, least)


def as_file(
    model: GeneralizedRCNN, path: Path, size: tuple[int, int] | None = None, least: int = 32
) -> FileDetector:
    path.write_bytes(b"a file")
    kind = detector.PanopticFileDetector if hasattr(model, "merge_limits") else FileDetector
    return kind(path, Eager(model), described(model, size, least))
