"""Split attention in as few passes as the arithmetic needs.

Legend: N images, R radix, C channels of a split, H and W.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Numbers of the result at a time, so that it stays in the cache while the splits are added: 1 MB.
_NUMBERS_AT_ONCE = 250_000


def refuse_split_attention(x: Tensor, radix: int) -> str | None:
    """Why a map cannot be taken."""
    if x.device.type != "cpu":
        return f"it is for the CPU, not for {x.device}"
    return None


def split_attention_gap(x: Tensor, radix: int) -> Tensor:
    """(N, R * C, H, W) to (N, C): the mean over the map of the sum of the splits."""
    means = x.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1)  # (N, R * C)
    splits: Tensor = means.unflatten(1, (radix, -1))  # (N, R, C)
    return splits.sum(dim=1)


def split_attention_mix(x: Tensor, attention: Tensor) -> Tensor:
    """(N, R * C, H, W) and (N, R, C) to (N, C, H, W): the sum of the weighted splits, channels last."""
    radix, channels = attention.shape[1:]
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (radix, channels))  # (N, H * W, R, C)
    out = x.new_empty((len(x), pixels.shape[1], channels))
    step = max(1, _NUMBERS_AT_ONCE // channels)
    for splits, factors, result in zip(pixels, attention, out, strict=True):
        for part, target in zip(splits.split(step), result.split(step), strict=True):
            torch.mul(part[:, 0], factors[0], out=target)
            for r in range(1, radix):
                target.addcmul_(part[:, r], factors[r])
    return out.view(len(x), *x.shape[2:], channels).permute(0, 3, 1, 2)
