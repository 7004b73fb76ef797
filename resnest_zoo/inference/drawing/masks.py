"""Masks drawn as a light fill, through which an object's own colour is seen, and an outline.

Legend: H and W height and width of the picture. All work is done in the rectangle around a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resnest_zoo.inference.drawing.colours import Colour, rim_of
from resnest_zoo.inference.drawing.placement import Box

Array = np.ndarray[Any, Any]

FILL = 0.25  # opacity: of what is drawn over a pixel
_OUTLINE = 0.9


@dataclass(frozen=True)
class Region:
    """A mask without the empty rows and columns around it.

    Attributes:
        box: where it lies in the picture.
        mask: (box height, box width) bool.
    """

    box: Box
    mask: Array

    @classmethod
    def of(cls, mask: Array) -> Region | None:
        """The region of a mask (H, W); None of an empty one."""
        rows = np.flatnonzero(mask.any(axis=1))
        if len(rows) == 0:
            return None
        y0, y1 = int(rows[0]), int(rows[-1]) + 1
        cols = np.flatnonzero(mask[y0:y1].any(axis=0))
        x0, x1 = int(cols[0]), int(cols[-1]) + 1
        return cls((x0, y0, x1, y1), mask[y0:y1, x0:x1])

    def of_picture(self, pixels: Array) -> Array:
        """The part (box height, box width, 3) of a picture (H, W, 3) in the box; a view."""
        x0, y0, x1, y1 = self.box
        return pixels[y0:y1, x0:x1]


def fill(pixels: Array, region: Region, colour: Colour, opacity: float = FILL) -> None:
    """Blend a colour into the pixels (H, W, 3) uint8 of a region."""
    part = region.of_picture(pixels)
    part[region.mask] = _blended(part[region.mask], colour, opacity)


def outline(pixels: Array, region: Region, colour: Colour, width: int, original: Array) -> None:
    """Draw a line along the inside of a region, with a rim further in where it could hardly be seen.

    Args:
        pixels: (H, W, 3) uint8, changed.
        region: which.
        colour: of the line.
        width: of the line, in pixels.
        original: (H, W, 3), the picture as it was, on which the line must be seen.
    """
    part = region.of_picture(pixels)
    inner = shrink(region.mask, width)
    line = region.mask & ~inner
    rim = rim_of(colour, region.of_picture(original)[line])
    part[line] = _blended(part[line], colour, _OUTLINE)
    if rim is not None:
        part[inner & ~shrink(inner, max(1, width // 2))] = rim


def shrink(mask: Array, by: int) -> Array:
    """Pixels of a mask (H, W) that lie more than `by` rows and columns away from all that is not of it."""
    inner = np.pad(mask, by)
    for _ in range(2):  # along both axes; a window's AND from those of halves of it
        length, full = 1, 2 * by + 1
        while length < full:
            step = min(length, full - length)
            inner = inner[:-step] & inner[step:]
            length += step
        inner = inner.T
    return inner


def _blended(pixels: Array, colour: Colour, opacity: float) -> Array:
    """Pixels (·, 3) uint8 with a colour laid over them."""
    levels = np.arange(256)[:, None] * (1 - opacity) + opacity * np.array(colour)  # (256, 3)
    table = np.rint(levels).astype(np.uint8)
    return np.stack([table[pixels[:, channel], channel] for channel in range(3)], axis=1)
