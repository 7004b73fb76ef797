"""Resizing of uint8 pictures, bit for bit as the reference does it, by Pillow or a kernel that equals it.

Pillow's bilinear filter rounds to uint8 between its two passes. torch and OpenCV come close but differ
by one grey level here and there, which is enough to move a detection; so pictures go through Pillow
or, where `resnest-zoo-kernels` is installed, its kernel of the same bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops import choice


def shortest_edge_size(size: tuple[int, int], min_size: int, max_size: int) -> tuple[int, int]:
    """The size (height, width) with the shorter side at `min_size`, unless the longer would pass `max_size`.

    A `min_size` of 0 leaves the size alone.

    Source: detectron2, `ResizeShortestEdge.get_output_shape`; the rounding is part of the numbers.
    """
    if min_size == 0:
        return size
    height, width = size
    scale = min_size / min(height, width)
    new_h, new_w = (float(min_size), scale * width) if height < width else (scale * height, float(min_size))
    if max(new_h, new_w) > max_size:
        scale = max_size / max(new_h, new_w)
        new_h, new_w = new_h * scale, new_w * scale
    # A strip one pixel wide may round to nothing; one pixel is kept, where the reference would fail.
    return max(1, int(new_h + 0.5)), max(1, int(new_w + 0.5))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a picture with Pillow's bilinear filter.

    Args:
        image: (3, H, W) uint8, any device.
        size: new (height, width).

    Returns:
        (3, height, width) uint8 on the CPU; `image` itself when the size is already right.

    Raises:
        ShapeError: `image` is not (3, H, W) uint8.
    """
    if image.dim() != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
        raise ShapeError(f"resize_image: expected (3, H, W) uint8, got {tuple(image.shape)} {image.dtype}")
    if tuple(image.shape[1:]) == size:
        return image
    image = image.cpu()
    resized: Tensor = choice.choose("resize_image", image, size).resize_image(image, size)
    return resized
