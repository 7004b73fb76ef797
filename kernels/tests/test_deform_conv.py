"""Deformable convolution against loops over pixels and taps, in float64."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import pytest
import resnest_zoo_kernels as kernels
from arrays import Array, Buffer, address, close, panels, random


def sample(picture: Array, y: float, x: float) -> Array:
    """(H, W, C) between its pixels, zero beyond them."""
    h, w, c = picture.shape
    total = np.zeros(c)
    if not (-1 < y < h and -1 < x < w):
        return total
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < h and 0 <= j < w:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * picture[i, j]
    return total


def oracle(
    x: Array,
    offset: Array,
    mask: Array | None,
    weight: Array,
    groups: int,
    stride: int,
    padding: int,
    dilation: int,
) -> Array:
    n, _, _, c = x.shape
    k, (out_h, out_w) = weight.shape[2], offset.shape[2:]
    deform_groups, out_g, in_g = offset.shape[1] // (2 * k * k), len(weight) // groups, weight.shape[1]
    y = np.zeros((n, out_h, out_w, len(weight)))
    for b, i, j in np.ndindex(n, out_h, out_w):
        column = np.zeros((k * k, c))
        for d, tap in np.ndindex(deform_groups, k * k):
            own, at = slice(d * c // deform_groups, (d + 1) * c // deform_groups), d * k * k + tap
            row = i * stride - padding + tap // k * dilation + float(offset[b, 2 * at, i, j])
            col = j * stride - padding + tap % k * dilation + float(offset[b, 2 * at + 1, i, j])
            column[tap, own] = sample(x[b, :, :, own], row, col) * (1 if mask is None else mask[b, at, i, j])
        for g in range(groups):
            outs = slice(g * out_g, (g + 1) * out_g)
            kernel = weight[outs].reshape(out_g, in_g, k * k).astype(float)
            y[b, i, j, outs] = np.einsum("tc,oct->o", column[:, g * in_g : (g + 1) * in_g], kernel)
    return y


def strides(array: Array) -> Any:
    return (ctypes.c_int64 * 4)(*(stride // array.itemsize for stride in array.strides))


def deform(
    x: Array,
    offset: Array,
    mask: Array | None,
    weight: Array,
    groups: int,
    places: tuple[int, int, int],
    bias: Array | None = None,
    pixels: int = 5,
    step: int = 11,
) -> Array:
    library = kernels.library()
    n, h, w, c = x.shape
    out_c, in_g, k, _ = weight.shape
    by_group = weight.reshape(groups, out_c // groups, in_g, k * k)
    packed = panels(by_group.transpose(0, 3, 2, 1).reshape(groups, k * k * in_g, out_c // groups))
    out_h, out_w = offset.shape[2:]
    shape = kernels.Deform(n, h, w, out_h, out_w, k, *places, offset.shape[1] // (2 * k * k))
    shape.offset_strides = strides(offset)
    shape.mask_strides = strides(offset if mask is None else mask)
    conv = kernels.Conv(c, out_c, groups, address(packed), packed.size, address(bias), 0)
    y = Buffer(n, out_h, out_w, out_c)
    work = Buffer(library.deform_conv_work(ctypes.byref(shape), ctypes.byref(conv), pixels))
    for first in range(0, n * out_h * out_w, step):
        library.deform_conv(
            address(x), x.size, address(offset), offset.size, address(mask), 0 if mask is None else mask.size,
            shape, conv, first, min(first + step, n * out_h * out_w), y.address, y.size,
            work.address, work.size,
        )  # fmt: skip
    work.check()
    y.check()
    return y.array


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("n", "h", "w", "c", "out_c", "groups", "deform_groups", "k", "stride", "padding", "dilation", "spread"),
    [
        (1, 5, 7, 8, 12, 1, 1, 3, 1, 1, 1, 1.0),
        (2, 5, 7, 34, 17 * 2, 2, 2, 3, 1, 1, 1, 2.0),
        (1, 11, 3, 6, 3, 1, 2, 3, 2, 1, 1, 3.0),
        (1, 6, 5, 12, 54, 2, 3, 3, 1, 2, 2, 30.0),
        (1, 1, 1, 3, 5, 1, 1, 3, 1, 1, 1, 1.0),
        (1, 7, 4, 17, 8, 1, 1, 1, 1, 0, 1, 1.0),
        (2, 5, 6, 16, 16, 4, 2, 3, 2, 0, 1, 1e4),
        (1, 5, 3, 8, 8, 1, 1, 3, 1, 1, 1, 3e38),
        (1, 3, 3, 512, 16, 1, 1, 1, 1, 0, 1, 0.5),
        (0, 5, 6, 8, 8, 1, 1, 3, 1, 1, 1, 1.0),
    ],
)
def test_deformable_convolution_is_that_of_the_loops(
    n, h, w, c, out_c, groups, deform_groups, k, stride, padding, dilation, spread, masked
):
    reach = dilation * (k - 1) + 1
    out_h, out_w = (h + 2 * padding - reach) // stride + 1, (w + 2 * padding - reach) // stride + 1
    offset = random(n, 2 * deform_groups * k * k, out_h, out_w, seed=3).astype(float) * spread
    offset = np.clip(offset, -3.4e38, 3.4e38).astype(np.float32)
    offset[:, ::5] = np.round(offset[:, ::5])
    mask = random(n, deform_groups * k * k, out_h, out_w, seed=4) if masked else None
    x, weight = random(n, h, w, c), random(out_c, c // groups, k, k, seed=1)
    places = (stride, padding, dilation)
    expected = oracle(x, offset, mask, weight, groups, *places)
    close(deform(x, offset, mask, weight, groups, places), expected, 1e-5)
    bias = random(out_c, seed=5)
    last = np.ascontiguousarray(offset.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # other strides
    close(deform(x, last, mask, weight, groups, places, bias, 1, 1000), expected + bias, 1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_offset_that_is_not_finite_reads_nothing(value):
    x, weight = random(1, 4, 4, 8), random(4, 8, 3, 3, seed=1)
    offset = np.full((1, 18, 4, 4), value, np.float32)
    assert (deform(x, offset, None, weight, 1, (1, 1, 1)) == 0).all()


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("kernel", 0, "not possible"),
        ("kernel", 65, "not possible"),
        ("kernel", 4, "fewer elements"),
        ("stride", 0, "not possible"),
        ("padding", -1, "not possible"),
        ("dilation", 0, "not possible"),
        ("deform_groups", 3, "not possible"),
        ("deform_groups", 2, "fewer elements"),
        ("out_h", 5, "fewer elements"),
        ("out_w", 2**45, "not possible"),
        ("h", 5, "fewer elements"),
        ("n", 2, "fewer elements"),
        ("offset_strides", (288, 16, 4, 2), "fewer elements"),
        ("offset_strides", (288, 16, -4, 1), "not possible"),
        ("mask_strides", (144, 16, 4, 2), "fewer elements"),
    ],
)
def test_what_cannot_be_is_refused(field, value, complaint):
    x, offset, mask, y = Buffer(4, 4, 8), Buffer(18, 4, 4), Buffer(9, 4, 4), Buffer(4, 4, 4)
    packed, work = Buffer(72, 16), Buffer(4096)
    conv = kernels.Conv(8, 4, 1, packed.address, packed.size, None, 0)
    shape = kernels.Deform(1, 4, 4, 4, 4, 3, 1, 1, 1, 1)
    shape.offset_strides, shape.mask_strides = (288, 16, 4, 1), (144, 16, 4, 1)
    setattr(shape, field, value)
    with pytest.raises(kernels.KernelError, match=complaint):
        kernels.library().deform_conv(
            x.address, x.size, offset.address, offset.size, mask.address, mask.size, shape, conv, 0, 16,
            y.address, y.size, work.address, work.size,
        )  # fmt: skip
    assert (y.array == 77).all()
