"""Greedy non-maximum suppression on torchvision's kernel, in steps that a graph can hold.

torchvision's `batched_nms` changes its algorithm with the number of boxes that are valid, which no exported
graph can follow; and an exported `nms` insists that two boxes or more stay.

Legend: R boxes, xyxy in absolute pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.ops import operators
from resnest_zoo.ops.operators import in_graph

# Up to so many boxes are moved apart and compared all with all; of more, each level is compared for itself.
# torchvision's bound on the CPU: rounding differs between the two, and training keeps its bits.
_FEW = 1000


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Let each box fall that overlaps a stronger one that stays.

    Args:
        boxes: (R, 4), finite. An empty one neither falls nor makes another fall.
        scores: (R,), not NaN. Of equal ones the first counts as the stronger.
        iou_threshold: IoU above which the weaker falls.

    Returns:
        Indices of those that stay, int64, by falling score.

    Source: torchvision, `ops.nms`.
    """
    return _padded_nms(boxes, scores, iou_threshold)[:-2]


def _padded_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`nms` with two empty boxes more, R and R + 1, which are always the last two that stay.

    So the kernel's graph always gets two. Runtimes leave out boxes of -inf, and of the lowest finite score:
    the lowest here is half of that.
    """
    lowest = torch.finfo(boxes.dtype).min / 2
    finite = F.pad(scores.to(boxes.dtype).clamp(min=lowest), (0, 2), value=lowest)
    keep: Tensor = operators.nms(F.pad(boxes, (0, 0, 0, 2)), finite, iou_threshold)
    return keep


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each group, by moving the groups apart.

    Args:
        boxes: (R, 4), finite, without negative coordinates.
        scores: (R,), not NaN.
        groups: (R,), small whole numbers from 0.
        iou_threshold: IoU above which the weaker of one group falls.

    Returns:
        Indices of those that stay, of all groups together, int64, by falling score.

    Source: torchvision, `ops.batched_nms`, to the last bit where that gets at most 1000 boxes on the CPU.
    """
    apart = F.pad(boxes, (0, 0, 0, 1)).max() + 1  # a row of zeros, lest there be none
    return nms(boxes + (groups.to(boxes.dtype) * apart)[:, None], scores, iou_threshold)


def nms_by_level(boxes: Tensor, scores: Tensor, rows: list[int], iou_threshold: float) -> Tensor:
    """`nms` within each level of the pyramid.

    Args:
        boxes: (R, 4), finite, without negative coordinates, level after level.
        scores: (R,), not NaN; -inf for boxes that are none, which must be empty.
        rows: of each level; their sum is R.
        iou_threshold: IoU above which the weaker of one level falls.

    Returns:
        Indices of those that stay, of all levels together, int64, by falling score. Boxes that are none are
        left out. The order of equal scores is open beyond 1000 boxes.

    Source: torchvision, `ops.batched_nms`, to the last bit on the CPU.
    """
    # A graph cannot look at values; there, rows decide.
    count = len(boxes) if in_graph() else int((scores > -torch.inf).sum())
    if count <= _FEW:
        levels = torch.cat([torch.full((n,), i, device=boxes.device) for i, n in enumerate(rows)])
        keep = grouped_nms(boxes, scores, levels, iou_threshold)
        return keep[scores[keep] > -torch.inf]
    # The two more are cut off behind: runtimes refuse a fill of as many as "those that stay, less two".
    stays = [
        boxes.new_zeros(len(level_scores) + 2, dtype=torch.bool).index_fill(
            0, _padded_nms(level_boxes, level_scores, iou_threshold), True
        )[:-2]
        for level_boxes, level_scores in zip(boxes.split(rows), scores.split(rows), strict=True)
    ]
    keep = (torch.cat(stays) & (scores > -torch.inf)).nonzero().flatten()
    return keep[scores[keep].sort(descending=True).indices]


def counted_rows(rows: Tensor, limit: int) -> Tensor:
    """The first `limit` rows, followed by zeros where there are fewer: (n, ...) to (limit, ...)."""
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, limit))[:limit]
