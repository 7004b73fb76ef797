"""Masks predicted inside boxes, brought to picture size.

Legend: N instances, M mask side, H and W picture height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.errors import ShapeError

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

    Source: detectron2, `layers/mask_ops.py`, `paste_masks_in_image`.
    """
    if mask_probs.dim() != 3 or mask_probs.shape[1] != mask_probs.shape[2]:
        raise ShapeError(f"paste_masks: expected masks (N, M, M), got {tuple(mask_probs.shape)}")
    if boxes.shape != (len(mask_probs), 4):
        raise ShapeError(f"paste_masks: {len(mask_probs)} masks but boxes {tuple(boxes.shape)}")
    height, width = image_size
    pasted = torch.zeros((len(boxes), height, width), dtype=torch.bool, device=boxes.device)
    chunk = _masks_at_once(boxes.device, height * width)
    for start in range(0, len(boxes), chunk):
        part = slice(start, start + chunk)
        rows, cols = _covering_window(boxes[part], image_size)
        grid = _sampling_grid(boxes[part], rows, cols).to(mask_probs.dtype)
        values = F.grid_sample(mask_probs[part, None], grid, align_corners=False)  # (n, 1, h, w)
        pasted[part, rows, cols] = values[:, 0] >= 0.5
    return pasted


def _masks_at_once(device: torch.device, picture_pixels: int) -> int:
    """On the CPU one mask at a time touches the fewest pixels; an accelerator prefers few large launches."""
    return 1 if device.type == "cpu" else max(1, _CHUNK_PIXELS // max(1, picture_pixels))


def _covering_window(boxes: Tensor, image_size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the picture outside which no value can reach one half."""
    height, width = image_size
    low = (boxes[:, :2].amin(dim=0).floor() - 1).tolist()
    high = (boxes[:, 2:].amax(dim=0).ceil() + 1).tolist()
    (x0, x1), (y0, y1) = ((int(a), int(b)) for a, b in zip(low, high, strict=True))
    x0, y0 = min(max(x0, 0), width), min(max(y0, 0), height)
    return slice(y0, max(y0, min(y1, height))), slice(x0, max(x0, min(x1, width)))


def _sampling_grid(boxes: Tensor, rows: slice, cols: slice) -> Tensor:
    """Pixel centres of the window in each box's own coordinates, -1 … 1; (n, h, w, 2) as xy."""
    y = torch.arange(rows.start, rows.stop, device=boxes.device, dtype=boxes.dtype) + 0.5
    x = torch.arange(cols.start, cols.stop, device=boxes.device, dtype=boxes.dtype) + 0.5
    x0, y0, x1, y1 = boxes[:, :, None].unbind(dim=1)  # each (n, 1)
    y = (y - y0) / (y1 - y0) * 2 - 1  # (n, h)
    x = (x - x0) / (x1 - x0) * 2 - 1  # (n, w)
    n, h, w = len(boxes), y.shape[1], x.shape[1]
    return torch.stack((x[:, None, :].expand(n, h, w), y[:, :, None].expand(n, h, w)), dim=3)
