from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from resnest_zoo.config import Crop, Input
from resnest_zoo.data.transforms import Transform, Window, draw_transform

FLIPS = ("none", "horizontal", "vertical")
WINDOW = Window(top=5, left=8, height=30, width=41)


def picture(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0)).byte()


def draws(settings: Input, size: tuple[int, int], count: int = 400) -> list[Transform]:
    rng = np.random.default_rng(0)
    return [draw_transform(settings, size, rng) for _ in range(count)]


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("size", [(30, 41), (47, 62), (13, 17)])
def test_pictures_and_labels_by_pillow(flip, size):
    """Crop, resize, flip in this order, each with the method of the reference."""
    transform = Transform(WINDOW, size, flip, cropped=True)
    image = picture(50, 70)
    labels = np.random.default_rng(0).integers(0, 255, (50, 70), dtype=np.uint8)
    box = (8, 5, 8 + 41, 5 + 30)
    method = {"horizontal": Image.Transpose.FLIP_LEFT_RIGHT, "vertical": Image.Transpose.FLIP_TOP_BOTTOM}

    def by_pillow(array: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        out = Image.fromarray(array).crop(box).resize(size[::-1], resample)
        return np.asarray(out if flip == "none" else out.transpose(method[flip]))

    expected = by_pillow(image.permute(1, 2, 0).numpy(), Image.Resampling.BILINEAR)
    assert np.array_equal(transform.image(image).permute(1, 2, 0).numpy(), expected)
    assert np.array_equal(transform.labels(labels), by_pillow(labels, Image.Resampling.NEAREST))
    assert transform.image(image).is_contiguous()


@pytest.mark.parametrize("flip", FLIPS)
def test_boxes_and_polygons_go_where_their_pixels_go(flip):
    """A rectangle painted into a picture, twice as high and three times as wide afterwards."""
    labels = np.zeros((50, 70), dtype=np.uint8)
    labels[12:20, 15:40] = 1
    transform = Transform(WINDOW, (60, 123), flip, cropped=True)
    painted = transform.labels(labels)
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert transform.boxes(np.array([[15.0, 12, 40, 20]])).tolist() == [expected]
    outline = np.array([[15.0, 12], [40, 12], [40, 20], [15, 20]])
    (moved,) = transform.polygons([outline])
    assert [*moved.min(axis=0), *moved.max(axis=0)] == expected
    assert np.array_equal(outline[0], [15, 12])  # untouched


def test_boxes_are_cut_at_the_border():
    boxes = np.array([[-3.0, -2, 5, 6], [0, 0, 99, 99], [60, 20, 65, 30]])
    whole = Transform(Window(0, 0, 50, 70), (50, 70))
    assert whole.boxes(boxes).tolist() == [[0, 0, 5, 6], [0, 0, 70, 50], [60, 20, 65, 30]]
    left, kept, outside = Transform(WINDOW, (30, 41), cropped=True).boxes(boxes).tolist()
    assert left == [0, 0, 0, 1]
    assert kept == [0, 0, 41, 30]
    assert outside == [41, 15, 41, 25]
    assert whole.boxes(np.zeros((0, 4))).shape == (0, 4)


def test_polygons_are_cut_by_a_crop_and_by_nothing_else():
    big = np.array([[-10.0, -10], [90, -10], [90, 90], [-10, 90]])
    whole = Transform(Window(0, 0, 50, 70), (50, 70))
    (same,) = whole.polygons([big])
    assert np.array_equal(same, big)
    (cut,) = Transform(WINDOW, (30, 41), cropped=True).polygons([big, big + 200])
    assert sorted(map(tuple, cut)) == [(0, 0), (0, 30), (41, 0), (41, 30)]


@pytest.mark.parametrize("flip", FLIPS)
def test_flips_are_even(flip):
    flips = Counter(t.flip for t in draws(Input(random_flip=flip), (40, 60)))
    assert set(flips) == {"none", flip}
    assert flip == "none" or 160 < flips[flip] < 240  # 4 standard deviations


def test_a_size_is_chosen_or_ranges():
    chosen = Counter(t.size for t in draws(Input(min_size_train=(10, 20, 40)), (50, 60)))
    assert set(chosen) == {(10, 12), (20, 24), (40, 48)}
    assert min(chosen.values()) > 90  # 133 expected
    ranged = {
        t.size[0] for t in draws(Input(min_size_train=(10, 14), min_size_train_sampling="range"), (50, 60))
    }
    assert ranged == {10, 11, 12, 13, 14}
    assert {t.size for t in draws(Input(min_size_train=(100,), max_size_train=90), (50, 60))} == {(75, 90)}


def windows(kind: str, size: tuple[float, float], picture_size: tuple[int, int]) -> list[Window]:
    drawn = draws(Input(crop=Crop(True, kind, size)), picture_size)
    assert all(t.cropped for t in drawn)
    found = [t.window for t in drawn]
    for w in found:
        assert 0 <= w.top <= picture_size[0] - w.height
        assert 0 <= w.left <= picture_size[1] - w.width
        assert w.height >= 1
        assert w.width >= 1
    return found


def sides(found: list[Window]) -> tuple[set[int], set[int]]:
    return {w.height for w in found}, {w.width for w in found}


def test_windows_of_each_type():
    assert sides(windows("relative", (0.5, 0.8), (21, 30))) == ({11}, {24})
    assert sides(windows("absolute", (10.0, 99.0), (21, 30))) == ({10}, {30})
    heights, widths = sides(windows("relative_range", (0.8, 0.5), (20, 30)))
    assert heights == {16, 17, 18, 19, 20}
    assert widths == set(range(15, 31))
    heights, widths = sides(windows("absolute_range", (17.0, 22.0), (20, 30)))
    assert heights == {17, 18, 19, 20}
    assert widths == {17, 18, 19, 20, 21, 22}
    assert sides(windows("absolute_range", (50.0, 60.0), (20, 30))) == ({20}, {30})


def test_windows_stand_everywhere():
    found = windows("absolute", (18.0, 27.0), (20, 30))
    assert {w.top for w in found} == {0, 1, 2}
    assert {w.left for w in found} == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["relative", "relative_range"])
def test_of_the_smallest_picture_a_pixel_is_left(kind):
    assert sides(windows(kind, (0.1, 0.1), (1, 1))) == ({1}, {1})


def test_without_crop_all_is_kept():
    (drawn,) = draws(Input(), (40, 60), count=1)
    assert drawn.window == Window(0, 0, 40, 60)
    assert not drawn.cropped
