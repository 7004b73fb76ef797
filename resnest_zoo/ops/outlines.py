"""Outlines of masks along the edges of their pixels, so that filling an outline gives the mask again.

Legend: H and W picture height and width, P corners of a ring.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resnest_zoo.errors import ShapeError

Array = np.ndarray[Any, Any]
Ring = list[tuple[int, int]]  # corners (x, y) in turn, the first not repeated at the end
Outline = list[Ring]  # an outer ring and those of its holes


def trace_outlines(mask: Array) -> list[Outline]:
    """The outlines of the pieces of a mask, from the topmost.

    Pixels that meet in a corner alone are of different pieces, unless they are joined elsewhere. A ring never
    crosses itself or another one, and touches no point twice; rings may share a point.

    Args:
        mask: (H, W) bool.

    Returns:
        For each piece its outer ring, and behind it those of its holes. Corners are pixel edges, 0 … W and
        0 … H. With x to the right and y downwards, outer rings have a positive area by the shoelace formula,
        holes a negative one, as GeoJSON has it.

    Raises:
        ShapeError: the mask is not bool or not (H, W).
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise ShapeError(f"trace_outlines: expected a bool mask (H, W), got {mask.dtype} {mask.shape}")
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    window = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]  # most masks fill a small part
    origin = (int(cols[0]), int(rows[0]))
    rings = [simple for ring in _follow(window, origin) for simple in _split(ring)]
    outlines = [[ring] for ring in rings if signed_area(ring) > 0]
    for hole in rings:
        if signed_area(hole) < 0:
            around = [outline for outline in outlines if _holds(outline[0], *_pixel_beside(hole))]
            min(around, key=lambda outline: signed_area(outline[0])).append(hole)
    return outlines


def signed_area(ring: Ring) -> float:
    """Pixels inside a ring; negative where it runs the other way round."""
    x, y = np.array(ring, dtype=np.int64).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _follow(mask: Array, origin: tuple[int, int]) -> list[Ring]:
    """Closed ways along pixel edges, the mask's pixels on their right; they may pass a point twice.

    `origin` (x, y) is where the mask's upper left corner is.
    """
    x, y, right, down = _corners(mask)
    across = _partners(np.lexsort((right, x, y)))  # the other end of each corner's horizontal edge
    along = _partners(np.lexsort((down, y, x)))
    visited = np.zeros(len(x), dtype=bool)
    inside = np.pad(mask, ((0, 1), (0, 1)))[y, x]  # the pixel below and to the right of each corner
    rings = []
    for start in np.lexsort((right, x, y)).tolist():
        if visited[start]:
            continue
        ring, at = [], start
        while not visited[at]:
            for next_corner in (across, along):
                visited[at] = True
                ring.append((int(x[at]) + origin[0], int(y[at]) + origin[1]))
                at = int(next_corner[at])
        rings.append(ring if inside[start] else ring[::-1])
    return rings


def _corners(mask: Array) -> tuple[Array, Array, Array, Array]:
    """Where edges turn, x and y, and whether (0, 1) the two edges there go right and downwards.

    Two pixels of the mask that meet in a corner alone make two of them, one for each.
    """
    padded = np.pad(mask, 1)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    count = nw.astype(np.int8) + ne + sw + se
    diagonal = (count == 2) & (nw == se)
    found = []
    for quarter, is_right, is_down in ((nw, 0, 0), (ne, 1, 0), (sw, 0, 1), (se, 1, 1)):
        alone = ((count == 1) & quarter) | ((count == 3) & ~quarter) | (diagonal & quarter)
        rows, cols = alone.nonzero()
        found.append((cols, rows, np.full(len(cols), is_right), np.full(len(cols), is_down)))
    x, y, right, down = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return x, y, right, down


def _partners(order: Array) -> Array:
    """Of each corner the other end of its edge: in `order`, edges are pairs of neighbours."""
    partners = np.empty(len(order), dtype=np.int64)
    partners[order[0::2]] = order[1::2]
    partners[order[1::2]] = order[0::2]
    return partners


def _split(ring: Ring) -> list[Ring]:
    """Rings that pass no point twice, from one that may."""
    rings: list[Ring] = []
    way: Ring = []
    places: dict[tuple[int, int], int] = {}
    for corner in ring:
        if corner in places:
            start = places[corner]
            rings.append(way[start:])
            for left in way[start:]:
                del places[left]
            del way[start:]
        places[corner] = len(way)
        way.append(corner)
    return [*rings, way]


def _pixel_beside(hole: Ring) -> tuple[float, float]:
    """The centre of a pixel of the mask at a hole's edge: the one above its topmost left corner."""
    x, y = min(hole, key=lambda corner: (corner[1], corner[0]))
    return x + 0.5, y - 0.5


def _holds(ring: Ring, x: float, y: float) -> bool:
    """Whether a point, which is on no edge, is inside: a ray to the right crosses an odd number of edges."""
    corners = np.array(ring, dtype=np.int64)
    before, after = corners, np.roll(corners, -1, axis=0)
    crossed = (before[:, 0] == after[:, 0]) & (before[:, 0] > x) & ((before[:, 1] > y) != (after[:, 1] > y))
    return bool(np.count_nonzero(crossed) % 2)
