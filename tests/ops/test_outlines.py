from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops.outlines import Ring, signed_area, trace_outlines

Array = np.ndarray[Any, Any]


def drawn(*rows: str) -> Array:
    return np.array([[letter == "#" for letter in row] for row in rows])


def filled(rings: list[Ring], size: tuple[int, int]) -> Array:
    """The even-odd rule at every pixel's centre, as slowly as it can be."""
    inside = np.zeros(size, dtype=bool)
    for row in range(size[0]):
        for col in range(size[1]):
            for ring in rings:
                for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
                    if (y0 > row + 0.5) != (y1 > row + 0.5):
                        assert x0 == x1
                        inside[row, col] ^= x0 > col + 0.5
    return inside


def random_masks() -> list[Array]:
    rng = np.random.default_rng(0)
    noise = [
        rng.random(size) < share for size in ((7, 11), (13, 5), (1, 17), (17, 1)) for share in (0.2, 0.5, 0.8)
    ]
    blocks = [np.kron(rng.random((6, 8)) < share, np.ones((2, 2), dtype=bool)) > 0 for share in (0.4, 0.7)]
    return [*noise, *blocks, np.ones((5, 3), dtype=bool)]


@pytest.mark.parametrize("mask", random_masks())
def test_filling_the_outlines_gives_the_mask(mask: Array) -> None:
    outlines = trace_outlines(mask)
    rings = [ring for outline in outlines for ring in outline]
    assert np.array_equal(filled(rings, mask.shape), mask)
    assert sum(map(signed_area, rings)) == mask.sum()
    for outer, *holes in outlines:
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
    for ring in rings:
        assert len(set(ring)) == len(ring) >= 4
    pieces = [filled(outline, mask.shape) for outline in outlines]
    assert (sum(piece.astype(int) for piece in pieces) == mask).all()  # each pixel in one piece


def test_a_square_runs_clockwise_on_the_screen() -> None:
    assert trace_outlines(drawn("....", ".##.", ".##.")) == [[[(1, 1), (3, 1), (3, 3), (1, 3)]]]


def test_nothing_has_no_outline() -> None:
    assert trace_outlines(np.zeros((4, 5), dtype=bool)) == []
    assert trace_outlines(np.zeros((0, 5), dtype=bool)) == []


def test_pixels_that_meet_in_a_corner_are_two_pieces() -> None:
    assert [len(outline) for outline in trace_outlines(drawn("#.", ".#"))] == [1, 1]
    assert [len(outline) for outline in trace_outlines(drawn(".#", "#."))] == [1, 1]


def test_a_ring_that_closes_in_a_corner_has_a_hole_that_touches_its_edge() -> None:
    outlines = trace_outlines(drawn("###.", "#.#.", "##.."))
    assert [[abs(signed_area(ring)) for ring in outline] for outline in outlines] == [[8.0, 1.0]]


def test_a_hole_belongs_to_the_piece_around_it() -> None:
    outlines = trace_outlines(
        drawn(
            "#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######", ".......", "###...."
        )
    )
    assert [[signed_area(ring) for ring in outline] for outline in outlines] == [[49, -25], [9, -1], [3]]


def test_outlines_are_valid_polygons() -> None:
    shapely = pytest.importorskip("shapely")
    for mask in random_masks():
        for outer, *holes in trace_outlines(mask):
            polygon = shapely.Polygon(outer, holes)
            assert shapely.is_valid_reason(polygon) == "Valid Geometry"
            assert polygon.area == signed_area(outer) + sum(map(signed_area, holes))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_cocos_own_filling_gives_the_mask_where_there_are_no_holes() -> None:
    for mask in random_masks():
        outlines = trace_outlines(mask)
        if not outlines or any(len(outline) > 1 for outline in outlines):
            continue
        flat = [[float(v) for corner in outer for v in corner] for (outer,) in outlines]
        rle = coco_mask.merge(coco_mask.frPyObjects(flat, *mask.shape))
        assert np.array_equal(np.asarray(coco_mask.decode(rle)), mask)


@pytest.mark.parametrize("mask", [np.zeros((2, 3), dtype=np.uint8), np.zeros((1, 2, 3), dtype=bool)])
def test_other_arrays_are_refused(mask: Array) -> None:
    with pytest.raises(ShapeError, match=r"expected a bool mask \(H, W\), got"):
        trace_outlines(mask)
