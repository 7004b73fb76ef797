"""Deformable convolution and ROIAlign as weighted sums of rows: `embedding_bag` over the pixels of a map.

A map in channels_last is a table, a row for each pixel. A bilinear sample is the weighted sum of four rows, a
cell of ROIAlign that of some more.

Legend: N images, C channels, H and W, G groups, D deformable groups, k kernel size, P output pixels at a
time, R regions, S pooled side, K rows or columns of pixels that a cell touches.
"""

from __future__ import annotations

from math import lcm

import torch
import torch.nn.functional as F
from torch import Tensor

_NUMBERS_AT_ONCE = 1_000_000  # of the columns of a deformable convolution: 4 MB
_INDICES_AT_ONCE = 2_000_000  # of ROIAlign


def refuse_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    relu: bool,
    stride: int,
    padding: int,
) -> str | None:
    """Why these arguments cannot be taken."""
    return _refuse(x, weight)


def _refuse(x: Tensor, other: Tensor) -> str | None:
    if x.dtype != torch.float32 or other.dtype != torch.float32 or x.device.type != "cpu":
        return f"it is for float32 on the CPU, not for {x.dtype} and {other.dtype} on {x.device}"
    if x.numel() >= 2**31:
        return "the map has more numbers than 32 bits count"
    return None


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    relu: bool,
    stride: int,
    padding: int,
) -> Tensor:
    """Sample at shifted places, which are finite, convolve, add, rectify.

    Args:
        x: (N, C, H, W).
        offset: (N, 2 * D * k * k, H', W'), (y, x) pairs in pixels.
        mask: (N, D * k * k, H', W'), or None.
        weight: (C', C / G, k, k).
        bias: (C',), or None.
        relu: rectify the result.
        stride: of both directions.
        padding: of both directions.

    Returns:
        (N, C', H', W') channels last.
    """
    out_channels, per_group, k, _ = weight.shape
    channels, taps = x.shape[1], k * k
    deform_groups = offset.shape[1] // (2 * taps)
    parts = lcm(channels // per_group, deform_groups)  # channels of one part have one group of each kind
    # With rows of zeros around: one before, two behind, since a place at the border has a neighbour there.
    table = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 2, 1, 2))  # (N, H + 3, W + 3, C)
    height, width = offset.shape[2:]
    out = x.new_empty((len(x), height * width, out_channels))
    places = (len(x), height * width, deform_groups, taps)
    shifts = offset.permute(0, 2, 3, 1).reshape(*places, 2)
    factors = None if mask is None else mask.permute(0, 2, 3, 1).reshape(places)
    anchors = _anchors(height, width, k, stride, padding)
    step = max(1, _NUMBERS_AT_ONCE // (taps * channels))
    filters = weight.permute(0, 2, 3, 1)  # (C', k, k, C / G)
    for n in range(len(x)):
        rows = table[n].view(-1, channels // parts)  # (pixels * parts, C / parts)
        for start in range(0, height * width, step):
            some = slice(start, start + step)
            index, share = _corners(
                shifts[n, some], [a[some] for a in anchors], x.shape[2], x.shape[3], parts
            )
            if factors is not None:
                share *= factors[n, some].repeat_interleave(parts // deform_groups, 1)[..., None]
            columns = F.embedding_bag(
                index.flatten(0, 2), rows, mode="sum", per_sample_weights=share.flatten(0, 2)
            )
            _multiply(columns.view(-1, parts, taps * (channels // parts)), filters, bias, out[n, some])
    if relu:
        out.relu_()
    return out.view(len(x), height, width, out_channels).permute(0, 3, 1, 2)


def _anchors(height: int, width: int, k: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """y and x of every tap without shift in the table, (H' * W', 1, k * k) each."""
    rows = torch.arange(height, dtype=torch.float32) * stride - padding + 1
    cols = torch.arange(width, dtype=torch.float32) * stride - padding + 1
    taps = torch.arange(k * k)
    y = (rows[:, None, None] + taps // k).expand(height, width, k * k)
    x = (cols[:, None] + taps % k).expand(height, width, k * k)
    return y.reshape(-1, 1, k * k), x.reshape(-1, 1, k * k)


def _corners(
    shifts: Tensor, anchors: list[Tensor], height: int, width: int, parts: int
) -> tuple[Tensor, Tensor]:
    """The four rows of the table that a place lies between, and what each counts.

    Args:
        shifts: (P, D, k * k, 2).
        anchors: y and x, (P, 1, k * k).
        height: H.
        width: W.
        parts: rows of the table for each pixel.

    Returns:
        (P, parts, k * k, 4) int32 and float32.
    """
    y = (shifts[..., 0] + anchors[0]).clamp_(0, height + 1)  # (P, D, k * k)
    x = (shifts[..., 1] + anchors[1]).clamp_(0, width + 1)
    top, left = y.int(), x.int()
    y -= top
    x -= left
    share = x.new_empty((*x.shape, 4))
    both = torch.mul(y, x, out=share[..., 3])
    torch.sub(y, both, out=share[..., 2])
    torch.sub(x, both, out=share[..., 1])
    torch.sub(1 - y, share[..., 1], out=share[..., 0])
    pitch = width + 3
    first = top.mul_(pitch).add_(left).mul_(parts)
    repeats = parts // shifts.shape[1]
    if repeats > 1:
        first = first.repeat_interleave(repeats, 1)
        share = share.repeat_interleave(repeats, 1)
    part = torch.arange(parts, dtype=torch.int32)[:, None, None]
    corner = torch.tensor([0, 1, pitch, pitch + 1], dtype=torch.int32) * parts
    return first[..., None] + (part + corner), share


def _multiply(columns: Tensor, filters: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Columns (P, parts, k * k * C / parts) times filters (C', k, k, C / G), into (P, C')."""
    parts, groups = columns.shape[1], columns.shape[1] * columns.shape[2] // filters[0].numel()
    by_group = filters.unflatten(0, (groups, -1))  # (G, C' / G, k, k, C / G)
    of_group = out.unflatten(1, (groups, -1))
    per_part = columns.shape[2] // (filters.shape[1] * filters.shape[2])
    each = parts // groups
    for group in range(groups):
        target = of_group[:, group]
        for index in range(each):
            wanted = by_group[group, ..., index * per_part : (index + 1) * per_part].flatten(1)
            part = columns[:, group * each + index]
            if index:
                target.addmm_(part, wanted.T)
            elif bias is None:
                torch.mm(part, wanted.T, out=target)
            else:
                torch.addmm(bias.unflatten(0, (groups, -1))[group], part, wanted.T, out=target)


def refuse_roi_align(
    features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int
) -> str | None:
    """Why these arguments cannot be taken."""
    return _refuse(features, rois)


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int) -> Tensor:
    """Pool regions (R, 5), finite, from (N, C, H, W): (R, C, S, S), channels last."""
    channels, height, width = features.shape[1:]
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)  # (N * H * W, C)
    pooled = features.new_empty((len(rois), size, size, channels))
    left, top, right, bottom = (rois[:, 1:] * scale - 0.5).unbind(dim=1)
    cells = torch.stack(((bottom - top) / size, (right - left) / size), dim=1)  # (R, 2)
    if sampling_ratio > 0:
        samples = torch.full_like(cells, sampling_ratio, dtype=torch.int64)
    else:
        samples = cells.ceil().long().clamp_(min=0)
    # Regions with as many samples in a cell go together.
    for down, across in samples.unique(dim=0).tolist():
        group = (samples == samples.new_tensor((down, across))).all(dim=1).nonzero().flatten()
        if down == 0 or across == 0:
            pooled[group] = 0
            continue
        first_y, share_y = _cell_shares(top[group], cells[group, 0], size, down, height)
        first_x, share_x = _cell_shares(left[group], cells[group, 1], size, across, width)
        step = max(1, _INDICES_AT_ONCE // (size * size * share_y.shape[2] * share_x.shape[2]))
        start = (rois[group, 0].int() * height)[:, None]
        rows = (start + first_y)[..., None] + torch.arange(share_y.shape[2], dtype=torch.int32)
        cols = first_x[..., None] + torch.arange(share_x.shape[2], dtype=torch.int32)  # (R, S, K)
        for some in range(0, len(group), step):
            part = slice(some, some + step)
            index = (rows[part] * width)[:, :, None, :, None] + cols[part, None, :, None, :]
            share = share_y[part, :, None, :, None] * share_x[part, None, :, None, :]
            found = F.embedding_bag(
                index.flatten(3).flatten(0, 2),
                table,
                mode="sum",
                per_sample_weights=share.flatten(3).flatten(0, 2),
            )
            pooled[group[part]] = found.view(-1, size, size, channels)
    return pooled.permute(0, 3, 1, 2)


def _cell_shares(start: Tensor, cell: Tensor, size: int, samples: int, length: int) -> tuple[Tensor, Tensor]:
    """What each line of pixels counts in the mean of a cell's samples, along one axis.

    Args:
        start: (R,) where the region begins, in pixels of the map.
        cell: (R,) length of a cell.
        size: S.
        samples: in a cell.
        length: of the map.

    Returns:
        (R, S) int32, the first line of each cell; (R, S, K), the shares of K lines from there, all of which
        are on the map.
    """
    steps = torch.arange(size, dtype=torch.float32)[:, None]
    within = (torch.arange(samples, dtype=torch.float32) + 0.5)[None, :]
    size_of_step = cell[:, None, None]
    places = start[:, None, None] + steps * size_of_step + within * size_of_step / samples  # (R, S, samples)
    counts = ((places >= -1) & (places <= length)).float().div_(samples)
    places = places.clamp_(0, length - 1)
    low = places.floor().clamp_(max=max(length - 2, 0))
    part = places.sub_(low)
    low = low.int()
    first = low.amin(dim=2)  # (R, S)
    lines = int((low.amax(dim=2) - first).max()) + 2 if len(low) else 1
    lines = min(lines, length)
    first = first.clamp_(max=length - lines)
    at = (low - first[..., None]).long()
    shares = torch.zeros((*first.shape, lines))
    shares.scatter_add_(2, at, counts * (1 - part))
    if lines > 1:
        shares.scatter_add_(2, at + 1, counts * part)
    return first, shares
