"""Resizing against Pillow, byte by byte."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import resnest_zoo_kernels as kernels
from arrays import Array, Buffer, address

Image = pytest.importorskip("PIL.Image")
SIZES = [1, 2, 3, 7, 15, 16, 17, 31, 50, 64, 67, 131]


def table(old: int, new: int) -> Buffer:
    library = kernels.library()
    found = Buffer(new * (library.resample_taps(old, new) + 2), dtype=np.int32)
    library.resample_table(old, new, found.address, found.size)
    found.check()
    return found


def across(x: Array, new: int, step: int = 1000) -> Array:
    """x (channels, h, w) of any strides."""
    library = kernels.library()
    channels, h, w = x.shape
    weights, y = table(w, new), Buffer(channels, h, new, dtype=np.uint8)
    work = Buffer(library.resample_work(channels, w, new), dtype=np.uint8)
    strides = (ctypes.c_int64 * 3)(*x.strides)
    for first in range(0, h, step):
        library.resample_across(
            x.ctypes.data, x.size, strides, channels, h, w, new, weights.address, weights.size, first,
            min(first + step, h), y.address, y.size, work.address, work.size,
        )  # fmt: skip
    y.check()
    work.check()
    return y.array


def down(x: Array, new: int, step: int = 1000) -> Array:
    x = np.ascontiguousarray(x)
    channels, h, w = x.shape
    weights, y = table(h, new), Buffer(channels, new, w, dtype=np.uint8)
    for first in range(0, new, step):
        kernels.library().resample_down(
            address(x), x.size, channels, h, w, new, weights.address, weights.size, first,
            min(first + step, new), y.address, y.size,
        )  # fmt: skip
    y.check()
    return y.array


def pillow(x: Array, size: tuple[int, int]) -> Array:
    """(3, h, w) to (3, *size)."""
    picture = Image.fromarray(np.ascontiguousarray(x.transpose(1, 2, 0)))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def picture(h: int, w: int, last: bool, seed: int = 0) -> Array:
    """(3, h, w), laid out with the channels last or first."""
    generator = np.random.default_rng(seed)
    if last:
        return generator.integers(0, 256, (h, w, 3), dtype=np.uint8).transpose(2, 0, 1)
    return generator.integers(0, 256, (3, h, w), dtype=np.uint8)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("new", SIZES)
def test_each_pass_gives_pillows_bytes(new, last):
    for old in SIZES:
        x = picture(19, old, last)
        assert (across(x, new) == pillow(x, (19, new))).all()
        x = picture(old, 19, last)
        assert (down(x, new) == pillow(x, (new, 19))).all()


def test_both_passes_in_ranges_of_rows_give_pillows_bytes():
    x = picture(37, 53, True)
    assert (down(across(x, 71, 5), 44, 3) == pillow(x, (44, 71))).all()


def test_pictures_of_other_channels_and_strides():
    for channels in (1, 2, 4):
        x = np.random.default_rng(0).integers(0, 256, (20, 23, channels), dtype=np.uint8).transpose(2, 0, 1)
        for c in range(channels):
            one = np.repeat(np.ascontiguousarray(x[c])[None], 3, axis=0)
            assert (across(x, 31)[c] == pillow(one, (20, 31))[0]).all()


def test_a_strong_reduction_and_the_brightest_picture():
    x = picture(3, 5000, False)
    assert (across(x, 3) == pillow(x, (3, 3))).all()
    assert (across(np.full((3, 4, 999), 255, np.uint8), 70) == 255).all()


@pytest.mark.parametrize(("at", "value"), [(0, -1), (0, 20), (1, 6), (1, -1)])
def test_a_table_that_reads_elsewhere_is_refused(at, value):
    x, y, weights = Buffer(3, 4, 20, dtype=np.uint8), Buffer(3, 4, 10, dtype=np.uint8), table(20, 10)
    weights.array[at] = value
    work = Buffer(kernels.library().resample_work(3, 20, 10), dtype=np.uint8)
    strides = (ctypes.c_int64 * 3)(80, 20, 1)
    with pytest.raises(kernels.KernelError, match="not finite or too large, or an index"):
        kernels.library().resample_across(
            x.address, x.size, strides, 3, 4, 20, 10, weights.address, weights.size, 0, 4, y.address, y.size,
            work.address, work.size,
        )  # fmt: skip
    assert (y.array == 77).all()


def test_short_buffers_and_odd_strides_are_refused():
    x, y, weights = Buffer(3, 4, 20, dtype=np.uint8), Buffer(3, 4, 10, dtype=np.uint8), table(20, 10)
    work = Buffer(kernels.library().resample_work(3, 20, 10), dtype=np.uint8)

    def call(**change: Any) -> None:
        given = {"x_size": x.size, "strides": (80, 20, 1), "h": 4, "w": 20, "table": weights.size, "last": 4}
        given |= {"y_size": y.size, "work": work.size} | change
        kernels.library().resample_across(
            x.address, given["x_size"], (ctypes.c_int64 * 3)(*given["strides"]), 3, given["h"], given["w"],
            10, weights.address, given["table"], 0, given["last"], y.address, given["y_size"], work.address,
            given["work"],
        )  # fmt: skip

    call()
    for change in (
        {"x_size": x.size - 1},
        {"strides": (80, 20, 2)},
        {"strides": (80, 20, -1)},
        {"h": 5},
        {"w": 0},
        {"w": 2**25},
        {"table": weights.size - 1},
        {"last": 5},
        {"y_size": y.size - 1},
        {"work": work.size - 1},
    ):
        with pytest.raises(kernels.KernelError):
            call(**change)
