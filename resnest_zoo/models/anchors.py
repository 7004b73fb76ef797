"""Anchors: boxes of fixed sizes and shapes at every cell of a feature map.

Legend: A anchors at one cell, H and W of a feature map. Boxes xyxy in pixels of the padded input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class AnchorGenerator:
    """Makes the anchors of each pyramid level.

    It holds numbers, no tensors: nothing to store in a checkpoint or to move between devices.
    """

    def __init__(
        self,
        sizes: tuple[tuple[float, ...], ...],
        aspect_ratios: tuple[tuple[float, ...], ...],
        strides: tuple[int, ...],
        offset: float,
    ) -> None:
        """Take one row of `sizes` and of `aspect_ratios` for each stride, or one row for all.

        Args:
            sizes: square root of an anchor's area, pixels.
            aspect_ratios: height / width.
            strides: of the levels, pixels.
            offset: of the first anchor's centre from the corner, in strides.
        """
        sizes = sizes * len(strides) if len(sizes) == 1 else sizes
        aspect_ratios = aspect_ratios * len(strides) if len(aspect_ratios) == 1 else aspect_ratios
        self.strides = strides
        self.offset = offset
        self.cell_anchors = [_cell_anchors(s, r) for s, r in zip(sizes, aspect_ratios, strict=True)]

    @property
    def num_anchors(self) -> int:
        """A, the same on every level."""
        return len(self.cell_anchors[0])

    def __call__(self, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each level's (N, C, H, W) its (H * W * A, 4) anchors, row by row, on the same device."""
        return [
            self._grid(fmap, cell, stride)
            for fmap, cell, stride in zip(feature_maps, self.cell_anchors, self.strides, strict=True)
        ]

    def _grid(self, fmap: Tensor, cell: list[list[float]], stride: int) -> Tensor:
        height, width = fmap.shape[-2:]
        dtype = torch.promote_types(fmap.dtype, torch.float32)
        x = (torch.arange(width, dtype=dtype, device=fmap.device) + self.offset) * stride
        y = (torch.arange(height, dtype=dtype, device=fmap.device) + self.offset) * stride
        y, x = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack((x, y, x, y), dim=2)  # (H, W, 4)
        anchors = torch.tensor(cell, dtype=torch.float32).to(centres)  # (A, 4), rounded as in the reference
        return (centres[:, :, None] + anchors).reshape(-1, 4)  # (H * W * A, 4)


def _cell_anchors(sizes: tuple[float, ...], aspect_ratios: tuple[float, ...]) -> list[list[float]]:
    """The A anchors around the origin: for each size every aspect ratio."""
    anchors = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = math.sqrt(size * size / ratio)
            height = ratio * width
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    return anchors
