"""Arithmetic of boxes that torchvision does not offer; NMS, IoU, clipping and areas are torchvision's.

Legend: R boxes, K classes. Boxes are (R, 4) xyxy in absolute pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resnest_zoo.errors import ShapeError

Weights4 = tuple[float, float, float, float]

# Growth of a side is limited to 1000 px / 16 px, the ratio of a large picture to the smallest anchor
# worth regressing, so that exp() cannot overflow early in training.
MAX_LOG_GROWTH = math.log(1000.0 / 16)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: Weights4) -> Tensor:
    """Apply regression deltas to anchors.

    Args:
        deltas: (R, 4 * K), order (dx, dy, dw, dh) per class, unitless.
        anchors: (R, 4) xyxy, pixels.
        weights: divisors of the four deltas.

    Returns:
        (R, 4 * K) boxes in the frame of `anchors`, at least float32, not clipped.

    Raises:
        ShapeError: the first dimensions differ.

    Source: R-CNN (Girshick et al., 2014), appendix C; detectron2, `Box2BoxTransform.apply_deltas`.
    """
    if deltas.shape[0] != anchors.shape[0]:
        raise ShapeError(f"decode_boxes: {deltas.shape[0]} rows of deltas for {anchors.shape[0]} anchors")
    dtype = torch.promote_types(deltas.dtype, torch.float32)
    deltas = deltas.to(dtype).unflatten(1, (-1, 4))  # (R, K, 4)
    anchors = anchors.to(dtype)
    sizes = anchors[:, 2:] - anchors[:, :2]  # (R, 2) wh
    centres = anchors[:, :2] + 0.5 * sizes
    shift = deltas[..., :2] / deltas.new_tensor(weights[:2])  # (R, K, 2)
    growth = (deltas[..., 2:] / deltas.new_tensor(weights[2:])).clamp(max=MAX_LOG_GROWTH)
    new_centres = centres[:, None] + shift * sizes[:, None]
    half = 0.5 * growth.exp() * sizes[:, None]
    return torch.cat((new_centres - half, new_centres + half), dim=2).flatten(1)  # (R, 4 * K)


def nonempty(boxes: Tensor, min_side: float = 0.0) -> Tensor:
    """(R,) bool: which boxes are wider and higher than `min_side` pixels."""
    return ((boxes[:, 2:] - boxes[:, :2]) > min_side).all(dim=1)
