"""3x3 convolution by Winograd's F(4x4, 3x3): 36 products for 16 outputs instead of 144.

Tiles of 6x6 pixels, which overlap by two, become 36 numbers of each channel by one matrix product; then each
of the 36 is a matrix product over channels; a third product makes 4x4 outputs. A few rows of tiles at a time,
so that all of it stays in the cache.

Legend: N images, C channels, H and W, G groups, T tiles at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from resnest_zoo.ops._plain import toom_cook
from resnest_zoo.ops._plain.workspace import WORKSPACE

# Of one of the working tensors: 8 MB. Measured from 1 to 16; less pays the overhead of calls, more memory.
_NUMBERS_AT_ONCE = 2_000_000
# Below these widths the transforms cost more than the products save; measured on AVX2 and AVX-512.
_LEAST_CHANNELS, _LEAST_CHANNELS_GROUPED = 128, 256


@dataclass(frozen=True)
class Packed:
    """Filters, tap by tap.

    In Winograd's domain they would be four times as large, hundreds of megabytes for a whole model; to bring
    them there takes a hundredth of the time of the products.

    Attributes:
        weight: (G, 9, C / G, C' / G).
    """

    weight: Tensor

    @property
    def out_channels(self) -> int:
        """C'."""
        return self.weight.shape[0] * self.weight.shape[3]

    def transformed(self, group: int) -> Tensor:
        """(36, C / G, C' / G) of a group, until the next are asked for."""
        taps = self.weight[group]  # (9, C / G, C' / G)
        out = WORKSPACE.take("filters", 36, *taps.shape[1:])
        torch.mm(_filter_transform(), taps.flatten(1), out=out.view(36, -1))
        return out


def refuse_conv3x3(weight: Tensor, groups: int) -> str | None:
    """Why filters (C', C / G, 3, 3) cannot be taken."""
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        return f"it is for float32 on the CPU, not for {weight.dtype} on {weight.device}"
    return None


def slow_conv3x3(weight: Tensor, groups: int) -> str | None:
    """Why the direct convolution is faster."""
    least = _LEAST_CHANNELS if groups == 1 else _LEAST_CHANNELS_GROUPED
    if min(weight.shape[0], weight.shape[1] * groups) < least:
        return f"fewer than {least} channels in {groups} group(s) are faster without transforms"
    return None


def pack_conv3x3(weight: Tensor, groups: int) -> Packed:
    """Filters (C', C / G, 3, 3) for `conv3x3`."""
    by_group = weight.detach().unflatten(0, (groups, -1))  # (G, C' / G, C / G, 3, 3)
    return Packed(by_group.permute(0, 3, 4, 2, 1).flatten(1, 2).contiguous())


def conv3x3(x: Tensor, packed: Packed, bias: Tensor | None, relu: bool) -> Tensor:
    """Convolve (N, C, H, W) with stride 1 and padding 1, add (C',), rectify: (N, C', H, W) channels last."""
    pixels = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)  # (N, H, W, C)
    groups, _, per_group, out_per_group = packed.weight.shape
    out = torch.empty((*pixels.shape[:3], packed.out_channels))
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = pixels.split(per_group, dim=3), out.split(out_per_group, dim=3), biases
    for group, (images, results, own) in enumerate(zip(*parts, strict=True)):
        filters = packed.transformed(group)
        for picture, result in zip(images, results, strict=True):
            _convolve_picture(picture, filters, own, relu, result)
    return out.permute(0, 3, 1, 2)


def _convolve_picture(picture: Tensor, filters: Tensor, bias: Tensor | None, relu: bool, out: Tensor) -> None:
    """One group: (H, W, C / G) to (H, W, C' / G), some rows of tiles at a time."""
    height, width, channels = picture.shape
    tiles_down, tiles_across = -(-height // 4), -(-width // 4)
    widest = 36 * tiles_across * max(channels, filters.shape[2])
    rows = max(1, min(_NUMBERS_AT_ONCE // max(widest, 1), tiles_down))
    padded = WORKSPACE.take("padded", 4 * rows + 2, 4 * tiles_across + 2, channels)
    padded[:, 0] = 0
    padded[:, width + 1 :] = 0
    for top in range(0, tiles_down, rows):
        band = padded[: 4 * min(rows, tiles_down - top) + 2]
        _fill(band, picture, 4 * top - 1)
        _convolve_band(band, filters, bias, relu, out[4 * top : 4 * top + len(band) - 2])


def _fill(band: Tensor, picture: Tensor, first: int) -> None:
    """Copy rows from `first` on, zeros where there are none; columns of padding are zero already."""
    height, width = picture.shape[:2]
    low, high = max(first, 0), min(first + len(band), height)
    band[: low - first] = 0
    band[low - first : high - first, 1 : width + 1] = picture[low:high]
    band[high - first :] = 0


def _convolve_band(band: Tensor, filters: Tensor, bias: Tensor | None, relu: bool, out: Tensor) -> None:
    """Rows of tiles: (4 t + 2, 4 u + 2, C / G) to the pixels (h, w, C' / G) of `out` that lie in them."""
    down, across = (len(band) - 2) // 4, (band.shape[1] - 2) // 4
    tiles, (_, channels, out_channels) = down * across, filters.shape
    row, col, _ = band.stride()
    windows = band.as_strided((6, 6, down, across, channels), (row, col, 4 * row, 4 * col, 1))
    gathered = WORKSPACE.take("gathered", 36, tiles * channels)
    gathered.view(windows.shape).copy_(windows)
    inputs = WORKSPACE.take("inputs", 36, tiles * channels)
    torch.mm(_input_transform(), gathered, out=inputs)
    products = WORKSPACE.take("products", 37, tiles, out_channels)
    # The last row, times the last column of the transform, is the bias.
    products[36] = 0 if bias is None else bias
    torch.bmm(inputs.view(36, tiles, channels), filters, out=products[:36])
    outputs = WORKSPACE.take("outputs", 16, tiles * out_channels)
    torch.mm(_output_transform(), products.view(37, -1), out=outputs)
    _scatter(outputs.view(4, 4, down, across, out_channels), relu, out)


def _scatter(made: Tensor, relu: bool, out: Tensor) -> None:
    """(4, 4, t, u, C') to (h, w, C'): what reaches beyond the picture is left out."""
    for i in range(4):
        for j in range(4):
            places = out[i::4, j::4]
            values = made[i, j, : places.shape[0], : places.shape[1]]
            if relu:
                torch.clamp_min(values, 0, out=places)
            else:
                places.copy_(values)


@cache
def _filter_transform() -> Tensor:
    g = toom_cook.filter_matrix()
    return _lasting(torch.kron(g, g))  # (36, 9)


@cache
def _input_transform() -> Tensor:
    b = toom_cook.input_matrix(4)
    return _lasting(torch.kron(b, b))  # (36, 36)


@cache
def _output_transform() -> Tensor:
    a = toom_cook.output_matrix(4)
    return _lasting(torch.cat((torch.kron(a, a), torch.ones(16, 1, dtype=torch.float64)), dim=1))  # (16, 37)


def _lasting(matrix: Tensor) -> Tensor:
    return matrix.float().contiguous()
