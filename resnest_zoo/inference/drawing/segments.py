"""The pieces of a panoptic map, and where in one a label has room.

Legend: H and W height and width of the map, Q runs. A run is a stretch of equal ids in one row; a piece is
what of one segment hangs together through pixels that share a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from resnest_zoo.inference.drawing.masks import Region, shrink
from resnest_zoo.inference.drawing.placement import Box

Array = np.ndarray[Any, Any]

_PLACES = 3  # of a label in a piece that are offered


def largest_pieces(ids: Array) -> dict[int, Region]:
    """Of each id of a map (H, W) its largest piece."""
    height, width = ids.shape
    starts_at = np.ones((height, width), dtype=bool)
    starts_at[:, 1:] = ids[:, 1:] != ids[:, :-1]
    starts = np.flatnonzero(starts_at)  # (Q,), counted through the rows
    ends = np.append(starts[1:], height * width)
    values = ids.reshape(-1)[starts]
    roots = _join(starts, ends, values, width)
    areas = np.bincount(roots, weights=ends - starts, minlength=len(starts))
    best: dict[int, int] = {}
    for root in np.unique(roots).tolist():
        value = int(values[root])
        if value not in best or areas[root] > areas[best[value]]:
            best[value] = root
    order = np.argsort(roots, kind="stable")
    bounds = np.searchsorted(roots[order], np.arange(len(starts) + 1))
    return {
        value: _region(starts[runs], ends[runs], width)
        for value, root in best.items()
        if len(runs := order[bounds[root] : bounds[root + 1]])
    }


def _join(starts: Array, ends: Array, values: Array, width: int) -> Array:
    """Of each run the first run of its piece: (Q,)."""
    one, other = _neighbours(starts, ends, values, width)
    roots = np.arange(len(starts))
    while True:
        low = np.minimum(roots[one], roots[other])
        before = roots.copy()
        np.minimum.at(roots, roots[one], low)
        np.minimum.at(roots, roots[other], low)
        roots = roots[roots]
        if (roots == before).all():
            return roots


def _neighbours(starts: Array, ends: Array, values: Array, width: int) -> tuple[Array, Array]:
    """Pairs of runs of one id, of which the second lies right below the first."""
    above, below = starts + width, ends + width  # the stretch of the next row under each run
    first = np.searchsorted(ends, above, side="right")  # the first run that ends behind its beginning
    last = np.searchsorted(starts, below, side="left")  # the first that begins behind its end
    counts = np.maximum(0, last - first)
    one = np.repeat(np.arange(len(starts)), counts)
    other = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    same = values[one] == values[other]
    return one[same], other[same]


def _region(starts: Array, ends: Array, width: int) -> Region:
    rows, lefts, rights = starts // width, starts % width, (ends - 1) % width + 1
    x0, y0, x1, y1 = int(lefts.min()), int(rows.min()), int(rights.max()), int(rows.max()) + 1
    steps = np.zeros((y1 - y0, x1 - x0 + 1), np.int32)
    np.add.at(steps, (rows - y0, lefts - x0), 1)
    np.add.at(steps, (rows - y0, rights - x0), -1)
    return Region((x0, y0, x1, y1), steps.cumsum(axis=1)[:, :-1] > 0)


def places_inside(region: Region, size: tuple[int, int]) -> tuple[Box, ...]:
    """Boxes of a label that lie wholly in a region, those near its middle first; none where there is no room.

    Args:
        region: a piece.
        size: (width, height) of the label.
    """
    grain = max(1, size[1] // 6)  # the map is looked at in squares of so many pixels
    rows, cols = (side // grain for side in region.mask.shape)
    wide, high = (-(-side // grain) for side in size)
    if rows < high or cols < wide:
        return ()
    blocks = region.mask[: rows * grain, : cols * grain].reshape(rows, grain, cols, grain)
    squares = np.asarray(blocks.all(axis=(1, 3)))
    sums = np.zeros((rows + 1, cols + 1), np.int64)
    sums[1:, 1:] = squares.cumsum(axis=0).cumsum(axis=1)
    windows = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    ys, xs = (windows == wide * high).nonzero()
    return tuple(_nearest(region, squares, (xs * grain, ys * grain), size))


def _nearest(
    region: Region, squares: Array, corners: tuple[Array, Array], size: tuple[int, int]
) -> Iterator[Box]:
    xs, ys = corners
    if len(xs) == 0:
        return
    height, width = region.mask.shape
    rows, cols = squares.nonzero()
    middle_x = (cols.mean() + 0.5) * width / squares.shape[1]
    middle_y = (rows.mean() + 0.5) * height / squares.shape[0]
    far = (xs + size[0] / 2 - middle_x) ** 2 + (ys + size[1] / 2 - middle_y) ** 2
    for index in np.argsort(far, kind="stable")[:: max(1, len(far) // _PLACES)][:_PLACES].tolist():
        x, y = region.box[0] + int(xs[index]), region.box[1] + int(ys[index])
        yield x, y, x + size[0], y + size[1]


def nearest(region: Region, to: tuple[int, int]) -> tuple[int, int]:
    """The pixel (x, y) of a region that is nearest to another, not on its border if it has an inside."""
    inner = shrink(region.mask, 2)
    ys, xs = (inner if inner.any() else region.mask).nonzero()
    ys, xs = ys + region.box[1], xs + region.box[0]
    index = int(np.argmin((xs - to[0]) ** 2 + (ys - to[1]) ** 2))
    return int(xs[index]), int(ys[index])


def deepest(region: Region) -> tuple[int, int]:
    """A pixel (x, y) of a region, about as far from its border as one can be."""
    mask, grain = region.mask, 1
    while min(mask.shape) > 2:  # ever larger squares that lie wholly in the region, while there are any
        rows, cols = mask.shape[0] // 2, mask.shape[1] // 2
        larger = np.asarray(mask[: 2 * rows, : 2 * cols].reshape(rows, 2, cols, 2).all(axis=(1, 3)))
        if not larger.any():
            break
        mask, grain = larger, 2 * grain
    ys, xs = mask.nonzero()
    nearest = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
    y, x = int(ys[nearest]) * grain + grain // 2, int(xs[nearest]) * grain + grain // 2
    return region.box[0] + x, region.box[1] + y
