"""Masks predicted inside boxes, brought to picture size.

Legend: N instances, M mask side, H and W picture height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.errors import ShapeError, ZooError

# Pixels sampled at once on an accelerator. In float32 the sampling grid of 2**28 pixels takes 2 GiB, the
# values 1 GiB, their comparison 0.25 GiB; the result comes on top.
_CHUNK_PIXELS = 2**28


def paste_masks(mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Stretch each mask over its box and keep the pixels that are at least one half.

    Args:
        mask_probs: (N, M, M) in [0, 1].
        boxes: (N, 4) xyxy, pixels of the picture.
        image_size: (H, W) of the picture.

    Returns:
        (N, H, W) bool. A pixel belongs to the mask when the bilinear value at its centre is >= 0.5;
        outside the mask's grid the value is 0. Boxes may reach beyond the picture.

    Raises:
        ShapeError: the masks are not (N, M, M), or boxes and masks differ in number.
        ZooError: a box is not finite.

    Source: detectron2, `layers/mask_ops.py`, `paste_masks_in_image`.
    """
    check_pasting("paste_masks", mask_probs, boxes)
    height, width = image_size
    pasted = torch.zeros((len(boxes), height, width), dtype=torch.bool, device=boxes.device)
    windows = covering_windows(boxes, image_size).cpu()
    chunk = _masks_at_once(boxes.device, height * width)
    for start in range(0, len(boxes), chunk):
        part = slice(start, start + chunk)
        x0, y0 = windows[part, :2].amin(dim=0).tolist()
        x1, y1 = windows[part, 2:].amax(dim=0).tolist()
        cols = torch.arange(x0, x1, device=boxes.device)
        rows = torch.arange(y0, y1, device=boxes.device)
        values = sample_masks(mask_probs[part], boxes[part], cols[None], rows[None])
        pasted[part, y0:y1, x0:x1] = values >= 0.5
    return pasted


def check_pasting(name: str, mask_probs: Tensor, boxes: Tensor) -> None:
    """Refuse what the function `name` cannot paste.

    Raises:
        ShapeError: the masks are not (N, M, M), or boxes and masks differ in number.
        ZooError: a box is not finite.
    """
    if mask_probs.dim() != 3 or mask_probs.shape[1] != mask_probs.shape[2]:
        raise ShapeError(f"{name}: expected masks (N, M, M), got {tuple(mask_probs.shape)}")
    if boxes.shape != (len(mask_probs), 4):
        raise ShapeError(f"{name}: {len(mask_probs)} masks but boxes {tuple(boxes.shape)}")
    finite = boxes.isfinite().all(dim=1)
    if not finite.all():
        index = int(finite.logical_not().nonzero()[0])
        raise ZooError(f"{name}: expected finite boxes, got {boxes[index].tolist()} as box {index}; drop it")


def _masks_at_once(device: torch.device, picture_pixels: int) -> int:
    """On the CPU one mask at a time touches the fewest pixels; an accelerator prefers few large launches."""
    return 1 if device.type == "cpu" else max(1, _CHUNK_PIXELS // max(1, picture_pixels))


def covering_windows(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(N, 4) int64 xyxy, end exclusive: the part of the picture outside which no value can reach one half.

    A window that holds no pixel ends where it starts.
    """
    height, width = image_size
    limit = torch.tensor([width, height], device=boxes.device)
    start = (boxes[:, :2].floor() - 1).clamp(min=0).minimum(limit)
    stop = (boxes[:, 2:].ceil() + 1).clamp(min=0).minimum(limit).maximum(start)
    return torch.cat((start, stop), dim=1).long()


def sample_masks(mask_probs: Tensor, boxes: Tensor, cols: Tensor, rows: Tensor) -> Tensor:
    """Bilinear values at the centres of the pixels where columns and rows meet.

    Args:
        mask_probs: (N, M, M).
        boxes: (N, 4) xyxy, pixels of the picture.
        cols: (N, w) or (1, w) int64.
        rows: (N, h) or (1, h) int64.

    Returns:
        (N, h, w), dtype of the masks.
    """
    x = relative_to_box(cols, boxes[:, 0:1], boxes[:, 2:3])  # (N, w)
    y = relative_to_box(rows, boxes[:, 1:2], boxes[:, 3:4])  # (N, h)
    n, h, w = len(boxes), y.shape[1], x.shape[1]
    grid = torch.stack((x[:, None, :].expand(n, h, w), y[:, :, None].expand(n, h, w)), dim=3)  # (N, h, w, 2)
    return F.grid_sample(mask_probs[:, None], grid.to(mask_probs.dtype), align_corners=False)[:, 0]


def relative_to_box(pixels: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Centres of columns or rows of pixels in the box's coordinates: -1 at its edge `low`, 1 at `high`."""
    return (pixels.to(low.dtype) + 0.5 - low) / (high - low) * 2 - 1
