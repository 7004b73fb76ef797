"""COCO's run-length encoding of instance masks: how many pixels in turn are outside and inside, column by
column from the left.

Legend: N instances, M mask side, H and W picture height and width, C columns of all instances' windows,
T toggles, the pixels at which a run ends and the next begins.
"""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops import choice
from resnest_zoo.ops.masks import check_pasting, covering_windows, relative_to_box, sample_masks

# Bounds of memory. In a picture 1920 wide, 32 instances as wide as it take 0.1 GiB, and 512 columns of 1080
# pixels 20 MiB. More at once is hardly faster.
_INSTANCES_AT_ONCE = 32
_COLUMNS_AT_ONCE = 512


class RLE(TypedDict):
    """A mask as COCO's result files hold it: `size` is [H, W], `counts` the compressed run lengths."""

    size: list[int]
    counts: str


def encode_masks(masks: Tensor) -> list[RLE]:
    """Encode masks of whole pictures.

    Args:
        masks: (N, H, W) bool.

    Raises:
        ShapeError: the masks are not bool or not (N, H, W).
    """
    from pycocotools import mask as coco_mask

    if masks.dim() != 3 or masks.dtype != torch.bool:
        raise ShapeError(f"encode_masks: expected bool (N, H, W), got {masks.dtype} {tuple(masks.shape)}")
    arrays = masks.cpu().numpy().view(np.uint8)
    return [_as_json(coco_mask.encode(np.asfortranarray(array))) for array in arrays]


def encode_pasted_masks(mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> list[RLE]:
    """Encode `paste_masks(mask_probs, boxes, image_size)` without pasting.

    Down a column of the picture, values are linear between one row of the mask and the next. Where they pass
    one half follows from the two rows; pixels between are not looked at. Only columns in which rounding could
    decide are sampled as `paste_masks` does, so the result is exactly that of pasting on the CPU, where
    tensors of another device are brought first.

    Args:
        mask_probs: (N, M, M) in [0, 1].
        boxes: (N, 4) xyxy, pixels of the picture.
        image_size: (H, W) of the picture.

    Raises:
        ShapeError: the masks are not (N, M, M), or boxes and masks differ in number.
        ZooError: a box is not finite.
    """
    check_pasting("encode_pasted_masks", mask_probs, boxes)
    args = (mask_probs.detach().cpu(), boxes.detach().cpu(), image_size)
    encoded: list[RLE] = choice.choose("encode_pasted_masks", *args).encode_pasted_masks(*args)
    return encoded


def encode_with_numpy(mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> list[RLE]:
    """`encode_pasted_masks` of arguments that are sound, without a kernel."""
    rles: list[RLE] = []
    for start in range(0, len(boxes), _INSTANCES_AT_ONCE):
        few = slice(start, start + _INSTANCES_AT_ONCE)
        toggles = _toggles(mask_probs[few], boxes[few], image_size)
        rles += _encode_toggles(toggles, len(boxes[few]), image_size)
    return rles


def _toggles(probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(T,) instance * (H * W + 1) + column * H + row, in any order; two at one place cancel."""
    height, width = image_size
    windows = covering_windows(boxes, image_size)
    widths = windows[:, 2] - windows[:, 0]
    owner = torch.arange(len(boxes)).repeat_interleave(widths)  # (C,)
    cols = torch.arange(len(owner)) - (widths.cumsum(0) - widths - windows[:, 0])[owner]
    nodes = _column_nodes(probs, owner, relative_to_box(cols, boxes[owner, 0], boxes[owner, 2]))
    # Rounding of coordinates moves values by less than 6 * (M + 2) * eps; 1.1 of it was seen.
    doubt = 8 * nodes.shape[1] * max(torch.finfo(probs.dtype).eps, torch.finfo(boxes.dtype).eps)
    at, row, unsure = _crossings(nodes, boxes[owner, 1].double(), boxes[owner, 3].double(), doubt)
    rows = torch.arange(height)[None]
    for some in unsure.nonzero().flatten().split(_COLUMNS_AT_ONCE):
        who = owner[some]
        inside = sample_masks(probs[who], boxes[who], cols[some, None], rows)[..., 0] >= 0.5  # (c, H)
        index, sampled = (F.pad(inside, (1, 0)) != F.pad(inside, (0, 1))).nonzero().unbind(dim=1)
        at, row = torch.cat((at, some[index])), torch.cat((row, sampled))
    return owner[at] * (height * width + 1) + cols[at] * height + row.clamp(0, height).long()


def _column_nodes(probs: Tensor, owner: Tensor, x: Tensor) -> Tensor:
    """(C, M + 2) float64: the values of the mask's rows in each column, with the zeros above and below."""
    side = probs.shape[1]
    columns = F.pad(probs.double(), (1, 1, 1, 1)).transpose(1, 2).contiguous()  # (n, M + 2, M + 2) as x, y
    # NaN: the box has no width, so no pixel belongs to the mask.
    position = ((x.double() + 1) * (side / 2) + 0.5).nan_to_num(nan=0.0).clamp(0, side + 1)
    left = position.long().clamp(max=side)
    return torch.lerp(columns[owner, left], columns[owner, left + 1], (position - left)[:, None])


def _crossings(nodes: Tensor, top: Tensor, bottom: Tensor, doubt: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where columns pass one half.

    Args:
        nodes: (C, M + 2) values of the mask's rows, evenly spaced over the box and one beyond it.
        top: (C,) upper edge of the box in pixels.
        bottom: (C,) lower edge.
        doubt: values closer than this to one half may be on either side.

    Returns:
        (T,) int64, the column of each crossing; (T,) float64, the first row after it, a whole number that
        may lie outside the picture; (C,) bool, the columns left out since a pixel of theirs is in doubt.
    """
    spacing = (bottom - top) / (nodes.shape[1] - 2)
    above = nodes >= 0.5
    at, node = (above[:, 1:] != above[:, :-1]).nonzero().unbind(dim=1)
    rise = nodes[at, node + 1] - nodes[at, node]
    place = top[at] + (node - 0.5 + (0.5 - nodes[at, node]) / rise) * spacing[at] - 0.5
    # Comparisons are turned so that NaN is in doubt.
    unsure = ~((nodes[:, 1:-1] - 0.5).abs() > doubt).all(dim=1)
    unsure[at[~((place - place.round()).abs() * rise.abs() > doubt * spacing[at].abs())]] = True
    sure = ~unsure[at]
    return at[sure], place[sure].ceil(), unsure


def _encode_toggles(toggles: Tensor, count: int, image_size: tuple[int, int]) -> list[RLE]:
    from pycocotools import mask as coco_mask

    height, width = image_size
    pixels = height * width
    places, times = np.unique(toggles.numpy(), return_counts=True)
    places = places[times % 2 == 1]
    bounds = np.searchsorted(places, np.arange(count + 1) * (pixels + 1))
    runs: list[dict[str, Any]] = []
    for index in range(count):
        own = places[bounds[index] : bounds[index + 1]] - index * (pixels + 1)
        lengths = np.diff(np.concatenate(([0], own, [pixels])))
        # A mask that ends with the picture has no run behind it.
        runs.append({"size": [height, width], "counts": lengths if lengths[-1] else lengths[:-1]})
    return [_as_json(rle) for rle in coco_mask.frPyObjects(runs, height, width)]


def _as_json(rle: dict[str, Any]) -> RLE:
    """With text where pycocotools has bytes."""
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
