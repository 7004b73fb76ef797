from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resnest_zoo.data.segmentation import (
    clip_polygon,
    decode_rle,
    is_polygon,
    is_rle,
    rasterize_polygons,
    run_lengths,
)

SIZES = [(1, 1), (1, 9), (9, 1), (7, 11), (40, 23), (300, 500)]


def random_mask(size: tuple[int, int], share: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(size) < share).astype(np.uint8)


def runs_of(mask: np.ndarray) -> list[int]:
    """Counted pixel by pixel, down the columns."""
    runs, value = [0], 0
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_encodings_are_read_as_pycocotools_wrote_them(size, share):
    mask = random_mask(size, share)
    compressed = coco_mask.encode(np.asfortranarray(mask))
    text = {"size": list(size), "counts": compressed["counts"].decode()}
    plain = {"size": list(size), "counts": runs_of(mask)}
    assert run_lengths(compressed["counts"]).tolist() == runs_of(mask)
    for rle in (compressed, text, plain):
        assert is_rle(rle, size)
        assert np.array_equal(decode_rle(rle), mask)


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "T",
        "a~",
        "é",
        "T3T3",
        "oooooooooo0",
        [50, 49],
        [50, 51],
        [-1, 101],
        [1.5, 98.5],
        ["100"],
        None,
        100,
        [],
    ],
)
def test_an_encoding_that_does_not_fill_its_picture_is_none(counts):
    assert is_rle({"size": [10, 10], "counts": [100]}, (10, 10))
    assert not is_rle({"size": [10, 10], "counts": counts}, (10, 10))


@pytest.mark.parametrize("size", [[10, 11], [11, 10], [100], None, "10x10"])
def test_an_encoding_of_another_size_is_none(size):
    assert not is_rle({"size": size, "counts": [100]}, (10, 10))


def compress(runs: list[int]) -> str:
    """COCO's text, number by number; it can also hold what no mask has."""
    text = ""
    for place, run in enumerate(runs):
        rest = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits, rest = rest & 0x1F, rest >> 5
            more = rest != (-1 if bits & 0x10 else 0)
            text += chr(48 + bits + 0x20 * more)
    return text


def test_a_negative_run_is_no_mask_even_where_the_sum_is_right():
    (packed,) = coco_mask.frPyObjects([{"size": [10, 10], "counts": [60, 9, 20, 11]}], 10, 10)
    assert compress([60, 9, 20, 11]) == packed["counts"].decode()
    assert is_rle({"size": [10, 10], "counts": compress([60, 9, 20, 11])}, (10, 10))
    assert run_lengths(compress([120, -40, 20])).tolist() == [120, -40, 20]
    assert not is_rle({"size": [10, 10], "counts": compress([120, -40, 20])}, (10, 10))
    assert not is_rle({"size": [10, 10], "counts": compress([100 + 2**40, -(2**40)])}, (10, 10))


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ([0, 0, 1, 0, 0, 1], True),
        ([0.5, 0, 1, 0, 0, 1, 2, 2], True),
        ([0, 0, 1, 0], False),
        ([0, 0, 1, 0, 0, 1, 2], False),
        ([], False),
        (3.5, False),
        ([[0, 0], [1, 0], [0, 1]], False),
        ([0, 0, 1, 0, 0, None], False),
        ([0, 0, 1, 0, 0, float("nan")], False),
        ([0, 0, 1, 0, 0, float("inf")], False),
        ([0, 0, 1, 0, 0, 10**400], False),
        (["a"] * 6, False),
        (None, False),
    ],
)
def test_what_is_a_polygon(value, good):
    assert is_polygon(value) is good


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
