"""ROIAlign against loops over samples, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import resnest_zoo_kernels as kernels
from arrays import Array, Buffer, address, close, random

ROIS = np.array(
    [
        [0, 3.0, 5.0, 40.0, 33.0],
        [1, 0.0, 0.0, 0.5, 0.5],
        [1, -50.0, -20.0, 90.0, 71.0],
        [0, 10.0, 10.0, 10.0, 10.0],
        [0, 200.0, 200.0, 300.0, 280.0],
        [1, 30.0, 20.0, 12.0, 9.0],
        [0, -0.7, 3.0, 61.3, 4.0],
        [1, 0.0, 0.0, 68.0, 52.0],
    ],
    np.float32,
)


def sample(picture: Array, y: float, x: float) -> Array:
    h, w, c = picture.shape
    if y < -1 or y > h or x < -1 or x > w:
        return np.zeros(c)
    y, x = min(max(y, 0.0), h - 1.0), min(max(x, 0.0), w - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
    down, across = y - top, x - left
    above = picture[top, left] * (1 - across) + picture[top, right] * across
    below = picture[bottom, left] * (1 - across) + picture[bottom, right] * across
    return above * (1 - down) + below * down


def oracle(x: Array, rois: Array, size: int, scale: float, ratio: int) -> Array:
    out = np.zeros((len(rois), size, size, x.shape[3]))
    for r, (image, *corners) in enumerate(rois.astype(float)):
        left, top, right, bottom = (corner * scale - 0.5 for corner in corners)
        high, wide = (bottom - top) / size, (right - left) / size
        rows, cols = (ratio, ratio) if ratio else (math.ceil(high), math.ceil(wide))
        for i, j in np.ndindex(size, size):
            for a, b in np.ndindex(max(rows, 0), max(cols, 0)):
                y, x_at = top + (i + (a + 0.5) / rows) * high, left + (j + (b + 0.5) / cols) * wide
                out[r, i, j] += sample(x[int(image)].astype(float), y, x_at) / (rows * cols)
    return out


def align(x: Array, rois: Array, size: int, scale: float, ratio: int, step: int = 3) -> Array:
    library = kernels.library()
    n, h, w, c = x.shape
    out, work = Buffer(len(rois), size, size, c), Buffer(library.roi_align_work(h, w, c, size))
    for first in range(0, len(rois), step):
        library.roi_align(
            address(x), x.size, n, h, w, c, address(rois), len(rois), size, scale, ratio, first,
            min(first + step, len(rois)), out.address, out.size, work.address, work.size,
        )  # fmt: skip
    out.check()
    work.check()
    return out.array


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize(("size", "channels"), [(1, 3), (7, 17), (14, 54), (7, 64)])
@pytest.mark.parametrize("count", [0, 1, 8])
def test_pooling_is_that_of_the_loops(channels, count, size, ratio):
    x = random(2, 13, 17, channels)
    close(align(x, ROIS[:count], size, 0.25, ratio), oracle(x, ROIS[:count], size, 0.25, ratio), 1e-5)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 9), (7, 1)])
def test_maps_of_one_row_or_column(h, w):
    x = random(2, h, w, 8)
    close(align(x, ROIS, 7, 0.25, 0), oracle(x, ROIS, 7, 0.25, 0), 1e-5)


@pytest.mark.parametrize(
    "roi",
    [
        [2, 0, 0, 9, 9],
        [-1, 0, 0, 9, 9],
        [np.nan, 0, 0, 9, 9],
        [0, np.nan, 0, 9, 9],
        [0, 0, 0, np.inf, 9],
        [0, 0, -np.inf, 9, 9],
        [0, 0, 0, 3e38, 9],
    ],
)
def test_regions_without_a_place_are_refused(roi):
    with pytest.raises(kernels.KernelError, match="not finite or too large, or an index"):
        align(random(2, 5, 5, 8), np.array([roi], np.float32), 7, 1.0, 0)


def test_short_buffers_are_refused():
    x, rois, out, work = Buffer(5, 5, 8), Buffer(2, 5), Buffer(2, 7, 7, 8), Buffer(1000)
    rois.array[:] = 0
    call = [x.address, x.size, 1, 5, 5, 8, rois.address, 2, 7, 1.0, 0, 0, 2, out.address, out.size]
    call += [work.address, work.size]
    kernels.library().roi_align(*call)
    for at, value in ((1, x.size - 1), (14, out.size - 1), (16, 9), (12, 3), (8, 0), (10, -1), (4, 2**31)):
        with pytest.raises(kernels.KernelError):
            kernels.library().roi_align(*call[:at], value, *call[at + 1 :])
