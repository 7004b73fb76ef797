"""Colours of classes and instances, and how well one is seen on another.

Source of the contrast: WCAG 2.2, "relative luminance" and "contrast ratio", 1 (none) to 21 (black on white).
"""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import Any

import numpy as np

Colour = tuple[int, int, int]
Array = np.ndarray[Any, Any]

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
_UNTRACKED: Colour = (150, 150, 150)
# Steps of the golden ratio around the colour circle keep neighbouring classes far apart.
_HUE_STEP = 0.618034
_EASY = 6.0  # contrast of letters and their patch; WCAG asks for 4.5
_FAINT = 1.5  # a line of less contrast with what it runs over is hard to see


@lru_cache(maxsize=1000)
def class_colour(index: int) -> Colour:
    """A bright colour that is always the same for a class; grey below 0, the ids of what is not tracked."""
    if index < 0:
        return _UNTRACKED
    value = 1.0 if index % 2 else 0.85
    red, green, blue = colorsys.hsv_to_rgb(index * _HUE_STEP % 1, 0.75, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def contrast(one: Colour, other: Colour) -> float:
    """The contrast ratio of two colours, 1-21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(patch: Colour) -> Colour:
    """Black or white, whichever is read better on `patch`: a contrast of 4.58 at least."""
    return max(BLACK, WHITE, key=lambda ink: contrast(ink, patch))


@lru_cache(maxsize=1000)
def patch_of(colour: Colour) -> Colour:
    """The colour, lighter or darker if need be, so that `ink_on` it is read with ease."""
    ink = ink_on(colour)
    away = WHITE if ink == BLACK else BLACK
    for share in range(0, 100, 5):
        red, green, blue = (round(c + (a - c) * share / 100) for c, a in zip(colour, away, strict=True))
        if contrast(ink, (red, green, blue)) >= _EASY:
            break
    return red, green, blue


def rim_of(line: Colour, beneath: Array) -> Colour | None:
    """A second colour beside a line that could hardly be seen; None where it needs none.

    Args:
        line: its colour.
        beneath: (·, 3), pixels that it runs over, or some of them.
    """
    if len(beneath) == 0:
        return None
    red, green, blue = beneath[:: len(beneath) // 500 + 1].mean(axis=0).tolist()
    ground = (round(red), round(green), round(blue))
    return ink_on(ground) if contrast(line, ground) < _FAINT else None


def _luminance(colour: Colour) -> float:
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
