"""The largest piece of each segment, and places in it: against a naive flood fill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnest_zoo.inference.drawing.masks import Region, shrink
from resnest_zoo.inference.drawing.segments import deepest, largest_pieces, nearest, places_inside

Array = np.ndarray[Any, Any]


def flooded(ids: Array) -> list[tuple[int, Array]]:
    """Every piece of a map: its id and its mask, pixel by pixel."""
    left = np.ones(ids.shape, bool)
    pieces = []
    for start in zip(*left.nonzero(), strict=True):
        if not left[start]:
            continue
        mask, todo = np.zeros(ids.shape, bool), [start]
        left[start] = False
        while todo:
            y, x = todo.pop()
            mask[y, x] = True
            for at in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= at[0] < ids.shape[0] and 0 <= at[1] < ids.shape[1]
                if inside and left[at] and ids[at] == ids[start]:
                    left[at] = False
                    todo.append(at)
        pieces.append((int(ids[start]), mask))
    return pieces


def whole(region: Region, shape: tuple[int, ...]) -> Array:
    mask = np.zeros(shape, bool)
    x0, y0, x1, y1 = region.box
    mask[y0:y1, x0:x1] = region.mask
    return mask


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1), (12, 12), (23, 31)])
@pytest.mark.parametrize("kinds", [1, 2, 4])
def test_the_largest_piece_is_that_of_a_flood_fill(shape: tuple[int, int], kinds: int) -> None:
    for seed in range(5):
        ids = np.random.default_rng(seed).integers(0, kinds, shape).astype(np.int32) * 7
        found, pieces = largest_pieces(ids), flooded(ids)
        assert set(found) == set(np.unique(ids).tolist())
        for number, region in found.items():
            masks = [mask for piece_of, mask in pieces if piece_of == number]
            mine = whole(region, ids.shape)
            assert mine.sum() == max(mask.sum() for mask in masks)
            assert any((mine == mask).all() for mask in masks)


def test_a_piece_that_winds_is_one() -> None:
    ids = np.zeros((41, 41), np.int32)
    for step in range(0, 20, 2):  # a spiral
        ids[step, step : 41 - step] = ids[step : 41 - step, 40 - step] = 1
        ids[40 - step, step : 41 - step] = ids[step + 2 : 41 - step, step] = 1
        ids[step + 2, step : step + 2] = 1
    assert largest_pieces(ids)[1].mask.sum() == max(mask.sum() for n, mask in flooded(ids) if n == 1)


def test_places_lie_inside_and_are_found_where_there_is_room() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        mask = np.zeros((90, 140), bool)
        for _ in range(4):
            y, x = rng.integers(0, 60), rng.integers(0, 90)
            mask[y : y + rng.integers(5, 40), x : x + rng.integers(5, 60)] = True
        region = Region.of(mask)
        assert region is not None
        for x0, y0, x1, y1 in places_inside(region, (30, 12)):
            assert (x1 - x0, y1 - y0) == (30, 12)
            assert mask[y0:y1, x0:x1].all()
    room = Region((0, 0, 40, 20), np.ones((20, 40), bool))
    assert places_inside(room, (30, 12))
    assert places_inside(room, (41, 12)) == places_inside(room, (30, 21)) == ()


def test_the_deepest_pixel_lies_inside() -> None:
    for seed in range(20):
        mask = np.random.default_rng(seed).random((30, 45)) > 0.4
        region = Region.of(mask)
        assert region is not None
        x, y = deepest(region)
        assert mask[y, x]
    big = np.zeros((64, 64), bool)
    big[0, :] = big[10:50, 10:50] = True
    region = Region.of(big)
    assert region is not None
    x, y = deepest(region)
    assert 20 <= x < 40
    assert 20 <= y < 40


def test_the_nearest_pixel_lies_inside_and_off_the_border_where_that_can_be() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    region = Region.of(mask)
    assert region is not None
    assert nearest(region, (0, 20)) == (22, 20)
    assert nearest(region, (35, 15)) == (35, 15)
    thin = Region((5, 5, 6, 9), np.ones((4, 1), bool))
    assert nearest(thin, (0, 7)) == (5, 7)


@pytest.mark.parametrize("by", [1, 2, 3, 7])
def test_shrinking_keeps_what_lies_deep_enough(by: int) -> None:
    mask = np.random.default_rng(by).random((25, 31)) > 0.05
    padded = np.pad(mask, by)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * by + 1, 2 * by + 1))
    assert (shrink(mask, by) == windows.all(axis=(2, 3))).all()
