"""Run lengths of instance masks by the kernels.

Legend: N instances, M mask side, H and W picture height and width, C columns of all instances' windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.ops._kernels.library import kernels, refuse_tensors
from resnest_zoo.ops.masks import sample_masks

if TYPE_CHECKING:
    from resnest_zoo.ops.rle import RLE

_LETTERS = 10  # at most of one run's length
_COLUMNS_AT_ONCE = 512  # of which pixels are looked at: 20 MiB in a picture 1080 high


def refuse_encode_pasted_masks(mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> str | None:
    """Why these arguments cannot be taken."""
    if min(image_size) < 1 or max(image_size) > 2**24:
        return f"it is for pictures of 1 to {2**24} pixels a side, not {image_size}"
    if len(mask_probs) and mask_probs.shape[1] < 1:
        return "the masks have no pixels"
    return refuse_tensors(mask_probs.detach(), boxes.detach())


def encode_pasted_masks(mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> list[RLE]:
    """Run lengths of (N, M, M) stretched over finite boxes (N, 4) in a picture of (H, W).

    Only columns in which rounding could decide are sampled as `paste_masks` does.
    """
    library = kernels().library()
    masks, boxes = mask_probs.detach().contiguous(), boxes.detach().contiguous()
    count, side, (height, width) = len(masks), masks.shape[1], image_size
    if not count:
        return []
    bounds, starts = torch.empty(count + 1, dtype=torch.int64), torch.empty(count, dtype=torch.int64)
    library.mask_columns(boxes.data_ptr(), count, height, width, bounds.data_ptr(), starts.data_ptr())
    columns = int(bounds[-1])
    crossings = torch.empty(max(columns, 1), dtype=torch.int32)
    rows = torch.empty(max(columns, 1), side + 1, dtype=torch.int32)
    work = torch.empty(side + 2, dtype=torch.float64)
    # Rounding of coordinates moves values by less than 6 * (M + 2) * eps; 1.1 of it was seen.
    doubt = 8 * (side + 2) * torch.finfo(torch.float32).eps
    library.mask_crossings(
        masks.data_ptr(), masks.numel(), boxes.data_ptr(), count, side, height, width, doubt,
        bounds.data_ptr(), starts.data_ptr(), crossings.data_ptr(), rows.data_ptr(), rows.numel(),
        work.data_ptr(), len(work),
    )  # fmt: skip
    unsure = (crossings[:columns] < 0).nonzero().flatten()
    owners = torch.searchsorted(bounds, unsure, right=True) - 1
    more_counts, more_rows = _looked_at(
        masks, boxes, height, owners, starts[owners] + unsure - bounds[owners]
    )
    places = int(crossings[:columns].clamp(min=0).sum()) + len(more_rows)
    found = torch.empty(max(places, 1), dtype=torch.int64)
    text = torch.empty((places + 2 * count) * _LETTERS, dtype=torch.uint8)
    lengths = torch.empty(count, dtype=torch.int64)
    library.mask_runs(
        count, height, width, bounds.data_ptr(), starts.data_ptr(), crossings.data_ptr(), side,
        rows.data_ptr(), rows.numel(), more_counts.data_ptr(), len(more_counts), more_rows.data_ptr(),
        len(more_rows), found.data_ptr(), len(found), text.data_ptr(), len(text), lengths.data_ptr(),
    )  # fmt: skip
    whole = text.numpy().tobytes().decode("ascii", "replace")
    ends = lengths.cumsum(0).tolist()
    texts = (whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True))
    return [{"size": [height, width], "counts": text} for text in texts]


def _looked_at(
    masks: Tensor, boxes: Tensor, height: int, owners: Tensor, cols: Tensor
) -> tuple[Tensor, Tensor]:
    """How often columns of instances begin or end, (c,) int32, and at which rows, pixel by pixel."""
    counts, found = [torch.empty(0, dtype=torch.int32)], [torch.empty(0, dtype=torch.int32)]
    rows = torch.arange(height)[None]
    for start in range(0, len(cols), _COLUMNS_AT_ONCE):
        some = slice(start, start + _COLUMNS_AT_ONCE)
        who = owners[some]
        inside = sample_masks(masks[who], boxes[who], cols[some, None], rows)[..., 0] >= 0.5  # (c, H)
        changes = F.pad(inside, (1, 0)) != F.pad(inside, (0, 1))  # (c, H + 1)
        counts.append(changes.sum(dim=1).int())
        found.append(changes.nonzero()[:, 1].int())
    return torch.cat(counts), torch.cat(found)
