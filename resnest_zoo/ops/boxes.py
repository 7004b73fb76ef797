"""Arithmetic of boxes that torchvision does not offer; NMS, clipping and areas are torchvision's.

Legend: R boxes, K classes. Boxes are (R, 4) xyxy in absolute pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.errors import ShapeError

Weights4 = tuple[float, float, float, float]

# Growth of a side is limited to 1000 px / 16 px, the ratio of a large picture to the smallest anchor
# worth regressing, so that exp() cannot overflow early in training.
MAX_LOG_GROWTH = math.log(1000.0 / 16)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: Weights4, *, clamp_shrink: bool = False) -> Tensor:
    """Apply regression deltas to anchors.

    Args:
        deltas: (R, 4 * K), order (dx, dy, dw, dh) per class, unitless.
        anchors: (R, 4) xyxy, pixels.
        weights: divisors of the four deltas.
        clamp_shrink: limit how much a side shrinks as its growth is limited, to 16 / 1000, as mmdetection
            does; the reference limits growth alone.

    Returns:
        (R, 4 * K) boxes in the frame of `anchors`, at least float32, not clipped.

    Raises:
        ShapeError: the first dimensions differ.

    Source: R-CNN (Girshick et al., 2014), appendix C; detectron2, `Box2BoxTransform.apply_deltas`;
    mmdetection 3.3, `delta2bbox`.
    """
    if deltas.shape[0] != anchors.shape[0]:
        raise ShapeError(f"decode_boxes: {deltas.shape[0]} rows of deltas for {anchors.shape[0]} anchors")
    dtype = torch.promote_types(deltas.dtype, torch.float32)
    deltas = deltas.to(dtype).unflatten(1, (-1, 4))  # (R, K, 4)
    anchors = anchors.to(dtype)
    sizes = anchors[:, 2:] - anchors[:, :2]  # (R, 2) wh
    centres = anchors[:, :2] + 0.5 * sizes
    shift = deltas[..., :2] / deltas.new_tensor(weights[:2])  # (R, K, 2)
    least = -MAX_LOG_GROWTH if clamp_shrink else None
    growth = (deltas[..., 2:] / deltas.new_tensor(weights[2:])).clamp(min=least, max=MAX_LOG_GROWTH)
    new_centres = centres[:, None] + shift * sizes[:, None]
    half = 0.5 * growth.exp() * sizes[:, None]
    return torch.cat((new_centres - half, new_centres + half), dim=2).flatten(1)  # (R, 4 * K)


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Weights4) -> Tensor:
    """The deltas that turn `anchors` into `boxes`.

    Args:
        boxes: (R, 4) xyxy, pixels, not empty.
        anchors: (R, 4) xyxy, pixels, not empty.
        weights: factors of the four deltas.

    Returns:
        (R, 4), order (dx, dy, dw, dh), unitless. `decode_boxes` takes them back to `boxes` unless a side
        grows beyond its limit.

    Raises:
        ShapeError: boxes and anchors differ in number.

    Source: R-CNN (Girshick et al., 2014), appendix C; detectron2, `Box2BoxTransform.get_deltas`.
    """
    if boxes.shape[0] != anchors.shape[0]:
        raise ShapeError(f"encode_boxes: {boxes.shape[0]} boxes for {anchors.shape[0]} anchors")
    old_sizes, new_sizes = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]  # (R, 2) wh
    moved = boxes[:, :2] + 0.5 * new_sizes - (anchors[:, :2] + 0.5 * old_sizes)
    deltas = torch.cat((moved / old_sizes, (new_sizes / old_sizes).log()), dim=1)  # (R, 4)
    return deltas * deltas.new_tensor(weights)


def box_regression_loss(
    deltas: Tensor, anchors: Tensor, boxes: Tensor, weights: Weights4, beta: float
) -> Tensor:
    """Smooth L1 loss of predicted deltas, summed over rows and coordinates.

    Args:
        deltas: (R, 4), predicted.
        anchors: (R, 4) the boxes that deltas refer to.
        boxes: (R, 4) where they should lead.
        weights: of the deltas.
        beta: difference at which the loss turns from quadratic to linear; 0 is plain L1.

    Returns:
        A scalar, at least float32; 0, with a gradient, for no rows.

    Source: Fast R-CNN (Girshick, 2015), equation 3; detectron2, `_dense_box_regression_loss`.
    """
    wanted = encode_boxes(boxes, anchors, weights)
    return F.smooth_l1_loss(deltas.to(wanted.dtype), wanted, reduction="sum", beta=beta)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each pair of (A, 4) and (B, 4) boxes, as (A, B); 0 for empty boxes.

    Unlike torchvision's `box_iou` it never holds the corners of all pairs: a third of the memory.
    """
    width = _overlap(boxes[:, 0], boxes[:, 2], others[:, 0], others[:, 2])
    shared = width.mul_(_overlap(boxes[:, 1], boxes[:, 3], others[:, 1], others[:, 3]))
    union = (box_area(boxes)[:, None] + box_area(others)).sub_(shared)
    return shared.div_(union).masked_fill_(union <= 0, 0.0)


def _overlap(low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor) -> Tensor:
    """Length shared by each interval of one list with each of another, (A,) and (B,) to (A, B)."""
    shared = torch.minimum(high[:, None], other_high)
    return shared.sub_(torch.maximum(low[:, None], other_low)).clamp_(min=0)


def box_area(boxes: Tensor) -> Tensor:
    """Areas of (R, 4) float boxes, (R,), in at least float32. Source: torchvision, `ops.box_area`."""
    left, top, right, bottom = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).unbind(1)
    return (right - left) * (bottom - top)


def clip_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) with what lies outside a picture of `image_size` cut off.

    Source: torchvision, `ops.clip_boxes_to_image`, which takes no size that a graph gets as an input: here
    height and width may be scalar tensors, too.
    """
    height, width = image_size
    corners = boxes.clamp(min=0)
    x, y = corners[..., 0::2].clamp(max=width), corners[..., 1::2].clamp(max=height)  # (..., 2)
    return torch.stack((x, y), dim=-1).flatten(-2)


def nonempty(boxes: Tensor, min_side: float = 0.0) -> Tensor:
    """(R,) bool: which boxes are wider and higher than `min_side` pixels."""
    return ((boxes[:, 2:] - boxes[:, :2]) > min_side).all(dim=1)
