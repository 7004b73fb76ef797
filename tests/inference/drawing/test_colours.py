"""What is written can be read on its patch, and a line that could not be seen gets a rim."""

from __future__ import annotations

import numpy as np
import pytest

from resnest_zoo.inference.drawing.colours import class_colour, contrast, ink_on, patch_of, rim_of


def test_the_contrast_ratio_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.478, abs=1e-3)  # the known example
    assert contrast((255, 0, 0), (255, 255, 255)) == pytest.approx(3.998, abs=1e-3)
    assert contrast((10, 20, 30), (10, 20, 30)) == 1


@pytest.mark.parametrize("index", [-1, *range(150), 10**6])
def test_letters_are_readable_on_every_colour_of_a_class(index: int) -> None:
    patch = patch_of(class_colour(index))
    assert contrast(ink_on(patch), patch) >= 6
    assert np.abs(np.subtract(patch, class_colour(index))).max() <= 60  # still taken for the same


def test_letters_are_readable_on_any_colour() -> None:
    rng = np.random.default_rng(0)
    for patch in rng.integers(0, 256, (3000, 3)).tolist():
        assert contrast(ink_on(tuple(patch)), tuple(patch)) >= 4.5
        assert contrast(ink_on(easy := patch_of(tuple(patch))), easy) >= 6


@pytest.mark.parametrize(
    "ground", [(10, 10, 10), (128, 128, 128), (240, 250, 240), (40, 200, 40), (200, 60, 50)]
)
def test_of_a_line_and_its_rim_one_is_seen_on_any_ground(ground: tuple[int, int, int]) -> None:
    beneath = np.tile(np.array(ground, np.uint8), (50, 1))
    for index in range(100):
        line = class_colour(index)
        rim = rim_of(line, beneath)
        assert max(contrast(line, ground), 1 if rim is None else contrast(rim, ground)) >= 1.5
        assert rim is None or contrast(line, ground) < 1.5


def test_a_line_over_nothing_needs_no_rim() -> None:
    assert rim_of((1, 2, 3), np.zeros((0, 3), np.uint8)) is None
