"""Convolution by Winograd against the sum over nine shifted pictures, in float64."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
import resnest_zoo_kernels as kernels
from arrays import Array, Buffer, address, close, panels, random

POINTS = {4: (0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)), 3: (0, 0.75, -0.75, 1.5)}


def filter_matrix(outputs: int) -> Array:
    points = POINTS[outputs]
    rows = []
    for p in points:
        scale = np.prod([p - q for q in points if q != p])
        rows.append([1 / scale, p / scale, p * p / scale])
    return np.array([*rows, [0, 0, 1]])


def bring(taps: Array, ey: int, ex: int, step: int) -> Array:
    """Filters tap by tap, (9, ...), to the points of a tile, (P, ...)."""
    size = taps[0].size
    out = Buffer((ey + 2) * (ex + 2), *taps.shape[1:])
    for first in range(0, size, step):
        kernels.library().conv3x3_filters(
            address(taps), taps.size, size, ey, ex, first, min(first + step, size), out.address, out.size
        )
    out.check()
    return out.array


def pack(weight: Array, groups: int, ey: int, ex: int) -> Array:
    out_c, in_c = weight.shape[:2]
    by_group = weight.reshape(groups, out_c // groups, in_c, 9)
    return np.stack([bring(panels(one.transpose(2, 1, 0)), ey, ex, 1000) for one in by_group])


def oracle(x: Array, weight: Array, bias: Array | None, groups: int, relu: bool) -> Array:
    """x (N, H, W, C), weight (C', C / G, 3, 3)."""
    n, h, w, c = x.shape
    padded = np.zeros((n, h + 2, w + 2, c))
    padded[:, 1:-1, 1:-1] = x
    out_g, in_g = len(weight) // groups, weight.shape[1]
    y = np.zeros((n, h, w, len(weight)))
    for g, i, j in itertools.product(range(groups), range(3), range(3)):
        outs, ins = slice(g * out_g, (g + 1) * out_g), slice(g * in_g, (g + 1) * in_g)
        y[..., outs] += padded[:, i : i + h, j : j + w, ins] @ weight[outs, :, i, j].T.astype(float)
    y += 0 if bias is None else bias
    return np.maximum(y, 0) if relu else y


def sides(side: int, mixed: bool) -> list[tuple[int, int, int]]:
    threes = -side % 4
    fours = (side - 3 * threes) // 4
    if not mixed or fours < 0 or not threes:
        return [(0, -(-side // 4), 4)]
    return [part for part in ((0, fours, 4), (4 * fours, threes, 3)) if part[1]]


def convolve(
    x: Array, weight: Array, bias: Array | None, groups: int, relu: bool, mixed: bool, tiles: int, step: int
) -> Array:
    library = kernels.library()
    n, h, w, c = x.shape
    y = Buffer(n, h, w, len(weight))
    for rows, cols in itertools.product(sides(h, mixed), sides(w, mixed)):
        packed = pack(weight, groups, rows[2], cols[2])
        grid = kernels.Grid(n, h, w, *rows, *cols)
        conv = kernels.Conv(c, len(weight), groups, address(packed), packed.size, address(bias), relu)
        work = Buffer(library.conv3x3_work(ctypes.byref(grid), ctypes.byref(conv), tiles))
        count = n * rows[1] * cols[1]
        for first in range(0, count, step):
            library.conv3x3(
                address(x), x.size, grid, conv, first, min(first + step, count), y.address, y.size,
                work.address, work.size,
            )  # fmt: skip
        work.check()
    y.check()
    return y.array


@pytest.mark.parametrize("step", [1, 37, 1000])
@pytest.mark.parametrize("size", [1, 15, 300])
@pytest.mark.parametrize("ex", [3, 4])
@pytest.mark.parametrize("ey", [3, 4])
def test_filters_are_brought_to_the_points_of_a_tile(ey, ex, size, step):
    taps = random(9, size)
    tile = np.kron(filter_matrix(ey), filter_matrix(ex))
    close(bring(taps, ey, ex, step), tile @ taps.astype(float), 1e-6)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ey": 2}, "not possible"),
        ({"ex": 5}, "not possible"),
        ({"size": 0}, "not possible"),
        ({"size": 2**62}, "not possible"),
        ({"first": -1}, "range"),
        ({"last": 21}, "range"),
        ({"taps": None}, "null"),
        ({"out": None}, "null"),
        ({"taps_size": 179}, "fewer elements"),
        ({"out_size": 719}, "fewer elements"),
    ],
)
def test_filters_that_cannot_be_are_refused(change, complaint):
    taps, out = Buffer(9, 20), Buffer(36, 20)
    call = {
        "taps": taps.address,
        "taps_size": taps.size,
        "size": 20,
        "ey": 4,
        "ex": 4,
        "first": 0,
        "last": 20,
    }
    call |= {"out": out.address, "out_size": out.size, **change}
    with pytest.raises(kernels.KernelError, match=complaint):
        kernels.library().conv3x3_filters(*call.values())
    assert (out.array == 77).all()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(
    ("n", "h", "w", "c", "out_c", "groups"),
    [
        (1, 4, 4, 16, 16, 1),
        (2, 7, 13, 3, 17, 1),
        (3, 7, 7, 17, 54, 1),
        (1, 14, 5, 34, 16, 2),
        (2, 1, 1, 8, 8, 1),
        (1, 1, 11, 54, 3, 1),
        (1, 23, 2, 12, 40, 4),
        (1, 9, 6, 512, 33, 1),
        (0, 5, 5, 8, 8, 1),
    ],
)
def test_convolution_is_that_of_the_loops(n, h, w, c, out_c, groups, mixed):
    x, weight, bias = random(n, h, w, c), random(out_c, c // groups, 3, 3, seed=1), random(out_c, seed=2)
    for tiles, step, with_bias, relu in ((5, 1000, True, False), (1, 3, False, True)):
        given = bias if with_bias else None
        got = convolve(x, weight, given, groups, relu, mixed, tiles, step)
        close(got, oracle(x, weight, given, groups, relu))


def test_nan_stays_nan_behind_relu():
    x = random(1, 4, 4, 8)
    x[0, 1, 1, 0] = np.nan
    got = convolve(x, random(8, 8, 3, 3, seed=1), None, 1, True, False, 4, 100)
    assert np.isnan(got[0, :3, :3]).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"grid.h": 0}, "not possible"),
        ({"grid.ey": 5}, "not possible"),
        ({"grid.ny": 3}, "not possible"),
        ({"grid.n": -1}, "not possible"),
        ({"grid.n": 2**62}, "not possible"),
        ({"grid.n": 2**39}, "fewer elements"),
        ({"conv.c": 9}, "fewer elements"),
        ({"conv.out_c": 17}, "fewer elements"),
        ({"conv.groups": 3}, "not possible"),
        ({"conv.groups": 0}, "not possible"),
        ({"conv.weights": None}, "null"),
        ({"conv.weights_size": 36 * 8 * 16 - 1}, "fewer elements"),
        ({"x": None}, "null"),
        ({"x_size": 8 * 8 * 8 - 1}, "fewer elements"),
        ({"y_size": 8 * 8 * 8 - 1}, "fewer elements"),
        ({"first": -1}, "range"),
        ({"first": 3, "last": 2}, "range"),
        ({"last": 5}, "range"),
        ({"work_size": 3}, "fewer elements"),
    ],
)
def test_what_cannot_be_is_refused_before_memory_is_touched(change, complaint):
    x, y, work, weights = Buffer(8, 8, 8), Buffer(8, 8, 8), Buffer(36 * 2 * 64), Buffer(36 * 8 * 16)
    conv = kernels.Conv(8, 8, 1, weights.address, weights.size, None, 0)
    grid = kernels.Grid(1, 8, 8, 0, 2, 4, 0, 2, 4)
    call = {"x": x.address, "x_size": x.size, "first": 0, "last": 4, "y_size": y.size, "work_size": work.size}
    for name, value in change.items():
        where, _, field = name.rpartition(".")
        if where:
            setattr({"conv": conv, "grid": grid}[where], field, value)
        else:
            call[name] = value
    with pytest.raises(kernels.KernelError, match=complaint):
        kernels.library().conv3x3(
            call["x"], call["x_size"], grid, conv, call["first"], call["last"], y.address, call["y_size"],
            work.address, call["work_size"],
        )  # fmt: skip
    assert (y.array == 77).all()
    assert (work.array == 77).all()
