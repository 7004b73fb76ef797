"""Split attention by the kernels: each number of the map is read once for the mean and once for the mix.

Legend: N images, R radix, C channels of a split, H and W.
"""

from __future__ import annotations

import torch
from torch import Tensor

from resnest_zoo.ops._kernels.library import kernels, pixels_of, refuse_tensors
from resnest_zoo.ops._kernels.threads import share

_NUMBERS_AT_ONCE = 100_000  # that are worth a range of their own


def refuse_split_attention(x: Tensor, radix: int) -> str | None:
    """Why a map cannot be taken."""
    return refuse_tensors(x)


def split_attention_gap(x: Tensor, radix: int) -> Tensor:
    """(N, R * C, H, W) to (N, C): the mean over the map of the sum of the splits."""
    library = kernels().library()
    maps = pixels_of(x).flatten(1, 2)  # (N, H * W, R * C)
    images, pixels, channels = len(maps), maps.shape[1], maps.shape[2] // radix
    means = torch.empty((images, channels), dtype=torch.float64)
    least = _rows(channels * radix)
    for image, mean in zip(maps, means, strict=True):
        parts = torch.zeros((-(-pixels // least), channels), dtype=torch.float64)

        def compute(first: int, last: int, image: Tensor = image, parts: Tensor = parts) -> None:
            for start in range(first, last):
                rows = (start * least, min(start * least + least, pixels))
                library.attention_sums(
                    image.data_ptr(), image.numel(), pixels, radix, channels, *rows, parts[start].data_ptr()
                )

        share(len(parts), 1, compute)
        torch.sum(parts, dim=0, out=mean)
    return (means / pixels).float()


def split_attention_mix(x: Tensor, attention: Tensor) -> Tensor:
    """(N, R * C, H, W) and (N, R, C) to (N, C, H, W): the sum of the weighted splits, channels last."""
    library = kernels().library()
    maps, factors = pixels_of(x), attention.detach().contiguous()
    images, height, width, _ = maps.shape
    radix, channels = factors.shape[1:]
    out = torch.empty((images, height, width, channels))
    for image, factor, mixed in zip(maps, factors, out, strict=True):

        def compute(
            first: int, last: int, image: Tensor = image, factor: Tensor = factor, mixed: Tensor = mixed
        ) -> None:
            library.attention_mix(
                image.data_ptr(),
                image.numel(),
                height * width,
                radix,
                channels,
                factor.data_ptr(),
                first,
                last,
                mixed.data_ptr(),
                mixed.numel(),
            )

        share(height * width, _rows(channels * radix), compute)
    return out.permute(0, 3, 1, 2)


def _rows(channels: int) -> int:
    return max(_NUMBERS_AT_ONCE // channels, 1)
