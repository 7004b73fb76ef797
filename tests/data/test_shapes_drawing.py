from __future__ import annotations

import numpy as np
import pytest

from resnest_zoo.data.shapes_drawing import THINGS, _Canvas, _make_shape, _outline, _rasterise


def test_a_mask_is_what_the_picture_shows():
    """Inside a shape the picture differs from the one without it, outside it is the same, shadow apart."""
    canvas = _Canvas(np.full((90, 90, 3), 0.5), np.zeros((90, 90), np.int16), (1.0, 0.0))
    rng = np.random.default_rng(0)
    shape = _make_shape(rng, 3, (40.0, 45.0), 30.0, (90, 90))
    assert canvas.place(rng, 3, [shape])
    changed = (canvas.image != 0.5).any(axis=2)
    lighter_or_coloured = changed & (np.ptp(canvas.image, axis=2) > 1e-12)  # a shadow on grey is grey
    mask = canvas.owner == 1
    assert (lighter_or_coloured & mask).sum() > 0.98 * mask.sum()
    rim = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            rim |= np.roll(mask, step, axis)
    assert not (lighter_or_coloured & ~rim & ~np.roll(rim, 1, 0) & ~np.roll(rim, -1, 0)).any()


@pytest.mark.parametrize("kind", range(len(THINGS)))
@pytest.mark.parametrize("centre", [(20.3, 15.8), (2.0, 28.5), (39.0, 3.1)])
def test_pixels_are_inside_by_the_even_odd_rule(kind, centre):
    """Beside a loop over pixels and edges; part of some shapes lies beyond the border."""
    rng = np.random.default_rng(kind)
    loops = [(centre[0] + 11 * x, centre[1] + 11 * y) for x, y in _outline(rng, kind)]
    window, inside = _rasterise(loops, (30, 40))
    got = np.zeros((30, 40), dtype=bool)
    got[window] = inside[1::3, 1::3]
    expected = [[_is_inside(loops, column + 0.5, row + 0.5) for column in range(40)] for row in range(30)]
    assert got.any()
    np.testing.assert_array_equal(got, expected)


def _is_inside(loops, x: float, y: float) -> bool:
    crossings = 0
    for xs, ys in loops:
        for k in range(len(xs)):
            x1, y1, x2, y2 = xs[k - 1], ys[k - 1], xs[k], ys[k]
            if (y1 <= y) != (y2 <= y) and x > x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize(("kind", "area"), [(0, np.pi), (1, 2.0), (2, 3**0.5 * 0.75)])
def test_coverage_adds_up_to_the_area(kind, area):
    """Of the circle, square and triangle in a circle; `_make_shape` narrows them by its second number."""
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    shape = _make_shape(rng, kind, (50.0, 50.0), 40.0, (100, 100))
    again.integers(360)
    expected = again.uniform(0.82, 1.0) * area * 40**2
    assert shape.coverage.sum() == pytest.approx(expected, rel=0.005)
    assert shape.coverage.min() == 0
    assert shape.coverage.max() == 1
    assert (shape.coverage[shape.mask] >= 2 / 9).all()
    if kind == 1:  # a symmetry that samples beside the pixels' centres would lose
        np.testing.assert_array_equal(shape.mask, shape.mask[::-1, ::-1])


def test_a_shape_that_would_hide_another_is_not_placed():
    """Circles of radius 13 to 15: three pixels apart they leave a sixth of each other, ten apart a half."""
    canvas = _Canvas(np.zeros((60, 60, 3)), np.zeros((60, 60), np.int16), (0.0, 1.0))
    rng = np.random.default_rng(0)

    def place(x: float, radius: float) -> bool:
        return canvas.place(rng, 0, [_make_shape(rng, 0, (x, 30.0), radius, (60, 60))])

    assert place(25, 15)
    before = canvas.image.copy(), canvas.owner.copy()
    assert not place(28, 15)
    assert np.array_equal(canvas.image, before[0])
    assert np.array_equal(canvas.owner, before[1])
    assert place(35, 15)
    assert not place(55, 2)  # it is too small itself
    assert canvas.kinds == [0, 0]
    assert set(canvas.owner.ravel().tolist()) == {0, 1, 2}
