from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resnest_zoo.data.segmentation import (
    clip_polygon,
    rasterize_polygons,
)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_polygons_are_drawn_as_pycocotools_draws_them():
    polygons = [
        np.array([[2.5, 3], [30, 4.25], [16, 27]]),
        np.array([[20, 20], [39, 20], [39, 29], [20, 29.5]]),
    ]
    flat = [polygon.ravel().tolist() for polygon in polygons]
    expected = coco_mask.decode(coco_mask.frPyObjects(flat, 30, 40)).any(axis=2)
    assert np.array_equal(rasterize_polygons(polygons, (30, 40)), expected)
    assert not rasterize_polygons([], (30, 40)).any()


def inside(polygon: np.ndarray, x: float, y: float) -> bool:
    """The even-odd rule by a ray to the right, edge by edge."""
    odd = False
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (ay > y) != (by > y) and x < ax + (bx - ax) * (y - ay) / (by - ay):
            odd = not odd
    return odd


def random_polygon(rng: np.random.Generator, simple: bool) -> np.ndarray:
    """In and around (0, 0, 20, 20); half of them on whole pixels, so that points meet the window's edge."""
    count = int(rng.integers(3, 14))
    points = rng.uniform(-8, 28, (count, 2))
    if simple:  # a star: points at rising angles, no two of them half a turn apart
        angles = (np.arange(count) + rng.uniform(0, 0.9, count)) * (2 * np.pi / count)
        reach = rng.uniform(3, 14, (count, 1))
        points = rng.uniform(2, 18, 2) + reach * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    return points.round() if rng.random() < 0.5 else points


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("simple", [True, False])
def test_what_is_left_of_a_polygon_is_what_lies_in_the_window(seed, simple):
    """A point in it lies in one part or, where the polygon crosses itself, in an odd number of them."""
    rng = np.random.default_rng(seed)
    polygon, window = random_polygon(rng, simple), (3.0, 5.0, 16.0, 14.0)
    parts = clip_polygon(polygon, window)
    for part in parts:
        assert (part >= window[:2]).all()
        assert (part <= window[2:]).all()
        assert len(part) >= 3
    for x, y in rng.uniform(-2, 22, (60, 2)):
        held = window[0] < x < window[2] and window[1] < y < window[3] and inside(polygon, x, y)
        times = sum(inside(part, x, y) for part in parts)
        assert times % 2 == held
        assert times <= 1 or not simple


@pytest.mark.parametrize("shift", [0, 1, 4])
@pytest.mark.parametrize("step", [1, -1])
def test_a_polygon_that_leaves_and_returns_becomes_several(shift, step):
    """The legs of an upside-down U, whose bar is outside: no line along the edge joins them."""
    points = np.array([[1, -5], [9, -5], [9, 6], [7, 6], [7, -2], [3, -2], [3, 6], [1, 6]], dtype=float)
    parts = clip_polygon(np.roll(points, shift, axis=0)[::step], (0, 0, 10, 10))
    boxes = sorted([*part.min(axis=0), *part.max(axis=0)] for part in parts)
    assert boxes == [[1, 0, 3, 6], [7, 0, 9, 6]]


def test_a_polygon_around_a_corner_does_not_reach_into_it():
    """An L around the window's upper right corner: the boxes around its two ends stay small."""
    points = np.array(
        [[2, -9], [19, -9], [19, 8], [9, 8], [9, 7], [15, 7], [15, -3], [4, -3], [4, 1], [2, 1]]
    )
    parts = clip_polygon(points.astype(float), (0, 0, 10, 10))
    boxes = sorted([*part.min(axis=0), *part.max(axis=0)] for part in parts)
    assert boxes == [[2, 0, 4, 1], [9, 7, 10, 8]]


def test_polygons_inside_stay_as_they_are_and_those_outside_go():
    window = (0, 0, 10, 10)
    whole = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], dtype=float)
    (kept,) = clip_polygon(whole, window)
    assert np.array_equal(kept, whole)
    assert clip_polygon(whole + 10, window) == []  # touches a corner
    assert clip_polygon(whole + np.array([10, 0]), window) == []  # touches an edge
    assert clip_polygon(np.array([[1, 5], [4, 5], [9, 5]], dtype=float), window) == []  # has no area
    assert len(clip_polygon(np.array([[0, 0], [4, 4], [4, 0], [0, 4]], dtype=float), window)) == 1  # bow tie
