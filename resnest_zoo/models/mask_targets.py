"""Targets of the mask head: each instance's mask, cut out by a box and brought to M x M pixels.

Legend: G instances, F boxes, M mask side, H and W of the model's input.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnest_zoo.ops.sampling import roi_align
from resnest_zoo.structures import Polygons

# Pixels of bitmasks turned into floats at once: 256 MiB in float32.
_PIXELS_AT_ONCE = 2**26
# Sides below this, in pixels, count as this long, so that no polygon is stretched without bound.
_MIN_SIDE = 0.1


def crop_masks(masks: Polygons | Tensor, matched: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Cut the masks of some instances out by boxes.

    Args:
        masks: the polygons of each of G instances, or (G, H, W) bool.
        matched: (F,) int64, the instance of each box.
        boxes: (F, 4) xyxy, pixels.
        side: M.

    Returns:
        (F, M, M) bool; on the device of bitmasks, on the CPU for polygons.

    Source: detectron2, `BitMasks.crop_and_resize` and `rasterize_polygons_within_box`.
    """
    if isinstance(masks, Tensor):
        return _crop_bitmasks(masks, matched.to(masks.device), boxes.to(masks.device), side)
    return _draw_polygons(masks, matched.tolist(), boxes.cpu().numpy(), side)


def _crop_bitmasks(masks: Tensor, matched: Tensor, boxes: Tensor, side: int) -> Tensor:
    """ROIAlign, then a threshold. Boxes share their instance's mask; a few instances are floats at a time."""
    cropped = masks.new_zeros((len(boxes), side, side))
    step = max(1, _PIXELS_AT_ONCE // max(1, masks[0].numel())) if len(masks) else 1
    for first in range(0, len(masks), step):
        rows = ((matched >= first) & (matched < first + step)).nonzero().flatten()
        if len(rows):
            part = masks[first : first + step, None].to(boxes.dtype)  # (g, 1, H, W)
            rois = torch.cat(((matched[rows, None] - first).to(boxes.dtype), boxes[rows]), dim=1)
            cropped[rows] = roi_align(part, rois, side, 1.0, 0)[:, 0] >= 0.5
    return cropped


def _draw_polygons(polygons: Polygons, matched: list[int], boxes: Any, side: int) -> Tensor:
    """COCO's own rasterisation, in a frame where the box is `side` pixels wide and high."""
    from pycocotools import mask as coco_mask

    drawn = np.zeros((len(matched), side, side), dtype=bool)
    points = {
        index: [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in polygons[index]]
        for index in set(matched)
    }
    rows, runs = [], []
    for row, (index, box) in enumerate(zip(matched, boxes, strict=True)):
        scale = side / np.maximum(box[2:] - box[:2], _MIN_SIDE)
        inside = [((polygon - box[:2]) * scale).ravel() for polygon in points[index]]
        if inside:  # an instance without polygons has no pixels, which COCO's code refuses
            rows.append(row)
            runs.append(coco_mask.merge(coco_mask.frPyObjects(inside, side, side)))
    if rows:
        with warnings.catch_warnings():  # of numpy 2 about pycocotools' own arrays
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            drawn[rows] = coco_mask.decode(runs).transpose(2, 0, 1)  # (n, side, side)
    return torch.from_numpy(drawn)
