"""3x3 convolutions one after another on many small maps of one size: a box head's 7x7, a mask head's 14x14.

Activations lie pixel after pixel, (S * S, R, C), so that Winograd's transforms are matrix products without
any copying. A side is covered by tiles of 4 and 3 outputs without remainder, for 7 one of each: 11 x 11
products for 49 outputs, where tiles of 4 alone would take 12 x 12 and the direct way 441.

Legend: R maps, C channels, S side, Q products along a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from resnest_zoo.ops._plain import toom_cook
from resnest_zoo.ops._plain.winograd import Packed, conv3x3
from resnest_zoo.ops._plain.workspace import WORKSPACE

_NUMBERS_AT_ONCE = 4_000_000  # of the products: 16 MB; with less, matrices have too few rows

Layer = tuple[Packed, Tensor | None]


def conv3x3_stack(x: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Convolutions with their biases, each followed by ReLU, on maps (R, C, S, S); channels last."""
    side, maps = x.shape[2], len(x)
    tiles = _tiles(side)
    if x.shape[3] != side or not tiles or any(len(packed.weight) > 1 for packed, _ in layers):
        for packed, bias in layers:
            x = conv3x3(x, packed, bias, True)
        return x
    channels = [x.shape[1], *(packed.out_channels for packed, _ in layers)]
    products = sum(tile + 2 for tile in tiles)
    step = max(1, _NUMBERS_AT_ONCE // (products * products * max(channels)))
    pixels = x.permute(0, 2, 3, 1).reshape(maps, side * side, channels[0])  # (R, S * S, C)
    states = [
        some.transpose(0, 1).clone(memory_format=torch.contiguous_format) for some in pixels.split(step)
    ]
    for packed, bias in layers:  # filters are large: those of one layer are made ready at a time
        filters = packed.transformed(0)
        states = [_convolve(state, filters, bias, tiles) for state in states]
    out = torch.cat([state.transpose(0, 1) for state in states])
    return out.view(maps, side, side, channels[-1]).permute(0, 3, 1, 2)


def _tiles(side: int) -> tuple[int, ...]:
    """Outputs of each tile along a side, none where 4 and 3 do not make it up."""
    threes = -side % 4
    fours = (side - 3 * threes) // 4
    return (4,) * fours + (3,) * threes if fours >= 0 else ()


def _convolve(x: Tensor, filters: Tensor, bias: Tensor | None, tiles: tuple[int, ...]) -> Tensor:
    """(S * S, R, C) to (S * S, R, C'), rectified; the result lies in the memory of `x` where it fits."""
    side, (pixels, maps, channels) = sum(tiles), x.shape
    into, out_of = _side_matrices(tiles)  # (Q, S), (S, Q + 1)
    q, out_channels = len(into), filters.shape[2]
    halfway = WORKSPACE.take("halfway", q, side, maps * channels)
    torch.mm(into, x.view(side, -1), out=halfway.view(q, -1))
    inputs = WORKSPACE.take("inputs", q, q, maps, channels)
    torch.bmm(into.expand(q, q, side), halfway, out=inputs.view(q, q, -1))
    products = WORKSPACE.take("products", q, q, maps, out_channels)
    filters = filters.view(6, 6, channels, out_channels)
    for row, point in enumerate(_points(tiles)):
        start = 0
        for tile in tiles:
            some = slice(start, start + tile + 2)
            torch.bmm(inputs[row, some], filters[point, : tile + 2], out=products[row, some])
            start += tile + 2
    # The last row, times the last column of the transform, is the bias.
    halfway = WORKSPACE.take("halfway", q + 1, side, maps * out_channels)
    halfway[q].view(side, maps, out_channels).copy_(torch.zeros(()) if bias is None else bias)
    torch.bmm(out_of[:, :q].expand(q, side, q), products.view(q, q, -1), out=halfway[:q])
    out = x if out_channels == channels else x.new_empty((pixels, maps, out_channels))
    torch.mm(out_of, halfway.view(q + 1, -1), out=out.view(side, -1))
    return out.relu_()


def _points(tiles: tuple[int, ...]) -> list[int]:
    """The point of each product along a side."""
    return [point for tile in tiles for point in range(tile + 2)]


@cache
def _side_matrices(tiles: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """From S inputs to Q products, and from these and a constant to S outputs."""
    side, count = sum(tiles), sum(tile + 2 for tile in tiles)
    into = torch.zeros(count, side + 2, dtype=torch.float64)  # with the padding
    out_of = torch.zeros(side, count + 1, dtype=torch.float64)
    out_of[:, -1] = 1
    place = first = 0
    for tile in tiles:
        into[first : first + tile + 2, place : place + tile + 2] = toom_cook.input_matrix(tile)
        out_of[place : place + tile, first : first + tile + 2] = toom_cook.output_matrix(tile)
        place, first = place + tile, first + tile + 2
    return into[:, 1:-1].float().contiguous(), out_of.float().contiguous()
