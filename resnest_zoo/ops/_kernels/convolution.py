"""3x3 convolution by Winograd: transforms, products, bias and ReLU of some tiles at a time in one kernel.

Tiles of 4x4 outputs take 6x6 products; where many small maps are convolved, tiles of 3 as well as of 4 cover
a side without remainder: 7 by 11 products, where two tiles of 4 would take 12.

Legend: N images, C channels, H and W, G groups, P products of a tile, T tiles.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.ops._kernels.library import kernels, pixels_of, refuse_tensors
from resnest_zoo.ops._kernels.panels import pack_panels
from resnest_zoo.ops._kernels.threads import LARGEST, WORKSPACE, Workspace, share

# At a time; measured: wide products need many rows, narrow ones all of their numbers in the second cache.
_FEWEST_TILES, _MOST_TILES = 28, 168
# From this many tiles on, other filters for tiles of 3 are worth reading, where they save a tenth.
_TILES_WORTH_MORE_FILTERS = 512
_LEAST_CHANNELS = 16
_NUMBERS_OF_A_STATE = 8_000_000  # of the maps between two layers: 32 MB
_FEWEST_NUMBERS = 32768  # of filters, that are worth a range of their own
_FILTERS = Workspace(2**24)  # 64 MiB: those of 512 channels take 38


@dataclass(frozen=True)
class Packed:
    """Filters, tap by tap.

    At Winograd's points they would be four times as large, and thirteen where tiles of 3 are used beside
    those of 4; they are brought there at each call.

    Attributes:
        groups: G.
        channels: C.
        out_channels: C'.
        taps: (G, 9, panels * C / G * 16).
    """

    groups: int
    channels: int
    out_channels: int
    taps: Tensor = field(repr=False)

    @contextmanager
    def of_tiles(self, down: int, across: int) -> Iterator[Tensor]:
        """The filters for tiles of these outputs, (G, P, panels * C / G * 16), until the end of the block."""
        size = self.taps.shape[2]
        shape = (self.groups, (down + 2) * (across + 2), size)
        library = kernels().library()
        with _FILTERS.lend(prod(shape)) as room:
            filters = room[: prod(shape)].view(shape)
            for taps, out in zip(self.taps, filters, strict=True):
                share(size, _FEWEST_NUMBERS, partial(_bring, library, taps, out, down, across))
            yield filters


def _bring(library: Any, taps: Tensor, out: Tensor, down: int, across: int, first: int, last: int) -> None:
    """Numbers [first, last) of the filters of a group, (9, n), to their points, (P, n)."""
    size = taps.shape[1]
    library.conv3x3_filters(
        taps.data_ptr(), taps.numel(), size, down, across, first, last, out.data_ptr(), out.numel()
    )


def refuse_conv3x3(weight: Tensor, groups: int) -> str | None:
    """Why filters (C', C / G, 3, 3) cannot be taken."""
    if tuple(weight.shape[2:]) != (3, 3):
        return f"it is for 3x3 filters, not for {tuple(weight.shape[2:])}"
    return refuse_tensors(weight.detach())


def slow_conv3x3(weight: Tensor, groups: int) -> str | None:
    """Why the direct convolution is faster."""
    if min(weight.shape[0] // groups, weight.shape[1]) < _LEAST_CHANNELS:
        return f"fewer than {_LEAST_CHANNELS} channels in a group are faster without transforms"
    return None


def pack_conv3x3(weight: Tensor, groups: int) -> Packed:
    """Filters (C', C / G, 3, 3) for `conv3x3`."""
    by_group = weight.detach().unflatten(0, (groups, -1))  # (G, C' / G, C / G, 3, 3)
    taps = by_group.flatten(3).permute(0, 3, 2, 1)  # (G, 9, C / G, C' / G)
    return Packed(groups, weight.shape[1] * groups, len(weight), pack_panels(taps).flatten(2))


def conv3x3(x: Tensor, packed: Packed, bias: Tensor | None, relu: bool) -> Tensor:
    """Convolve (N, C, H, W) with stride 1 and padding 1, add (C',), rectify: (N, C', H, W) channels last."""
    pixels = pixels_of(x)
    out = torch.empty((*pixels.shape[:3], packed.out_channels))
    _convolve(pixels, packed, bias, relu, out)
    return out.permute(0, 3, 1, 2)


def conv3x3_stack(x: Tensor, layers: Sequence[tuple[Packed, Tensor | None]]) -> Tensor:
    """Convolutions with their biases, each followed by ReLU, on maps (R, C, S, S); channels last.

    Some maps at a time go through all layers, in memory that is used again.
    """
    pixels = pixels_of(x)
    maps, height, width, channels = pixels.shape
    out = torch.empty((maps, height, width, layers[-1][0].out_channels))
    widest = max(channels, *(packed.out_channels for packed, _ in layers))
    step = max(1, min(maps, _NUMBERS_OF_A_STATE // (height * width * widest)))
    states = [torch.empty(step * height * width * widest) for _ in layers[1:3]]
    for start in range(0, maps, step):
        state = pixels[start : start + step]
        for index, (packed, bias) in enumerate(layers):
            shape = (len(state), height, width, packed.out_channels)
            if index == len(layers) - 1:
                target = out[start : start + step]
            else:
                target = states[index % 2][: prod(shape)].view(shape)
            _convolve(state, packed, bias, True, target)
            state = target
    return out.permute(0, 3, 1, 2)


def _convolve(pixels: Tensor, packed: Packed, bias: Tensor | None, relu: bool, out: Tensor) -> None:
    """(N, H, W, C) to `out` (N, H, W, C'), both contiguous."""
    images, height, width, _ = pixels.shape
    bias = None if bias is None else bias.detach().contiguous()
    if not out.numel():
        return
    for rows in _sides(height, images * height * width):
        for cols in _sides(width, images * height * width):
            _convolve_tiles(pixels, packed, bias, relu, out, rows, cols)


def _convolve_tiles(
    pixels: Tensor,
    packed: Packed,
    bias: Tensor | None,
    relu: bool,
    out: Tensor,
    rows: tuple[int, int, int],
    cols: tuple[int, int, int],
) -> None:
    """All tiles of one kind: first output, count and outputs of each along both sides."""
    package = kernels()
    library = package.library()
    with packed.of_tiles(rows[2], cols[2]) as filters:
        conv = package.Conv(
            packed.channels,
            packed.out_channels,
            packed.groups,
            filters.data_ptr(),
            filters.numel(),
            None if bias is None else bias.data_ptr(),
            relu,
        )
        grid = package.Grid(*pixels.shape[:3], *rows, *cols)
        grid_, conv_ = ctypes.byref(grid), ctypes.byref(conv)
        tiles = len(pixels) * rows[1] * cols[1]
        block = _block(packed, tiles)
        needed: int = library.conv3x3_work(grid_, conv_, block)
        x_, out_ = (pixels.data_ptr(), pixels.numel()), (out.data_ptr(), out.numel())

        def compute(first: int, last: int) -> None:
            with WORKSPACE.lend(needed) as work:
                library.conv3x3(*x_, grid_, conv_, first, last, *out_, work.data_ptr(), needed)

        share(tiles, block, compute)


def _block(packed: Packed, tiles: int) -> int:
    """Tiles at a time, a multiple of 14: the rows that are multiplied at once on AVX-512."""
    channels = packed.channels + packed.out_channels
    wanted = min(channels // 56 * 14, _MOST_TILES)
    kept = LARGEST // (36 * channels) // 14 * 14  # more would be fresh memory at each call
    return min(max(min(wanted, kept), _FEWEST_TILES), tiles)


def _sides(side: int, pixels: int) -> list[tuple[int, int, int]]:
    """How tiles cover a side: the first output, how many tiles, outputs of each."""
    threes = -side % 4
    fours = (side - 3 * threes) // 4
    products, of_fours_alone = 6 * fours + 5 * threes, 6 * -(-side // 4)
    worth = pixels >= 16 * _TILES_WORTH_MORE_FILTERS and products < 0.95 * of_fours_alone
    if fours < 0 or threes == 0 or not worth:
        return [(0, -(-side // 4), 4)]
    return [part for part in ((0, fours, 4), (4 * fours, threes, 3)) if part[1]]
