"""Polygons of COCO's annotations, drawn as masks and cut at the border of a window.

What a polygon and a run-length encoding are, and whether they fit, stands in `annotations`. Legend: H and W
height and width, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from resnest_zoo.annotations.masks import decode_rle

Polygon = npt.NDArray[np.float64]  # (P, 2) xy, pixels
Window = tuple[float, float, float, float]  # xyxy, pixels


def rasterize_polygons(polygons: Sequence[Polygon], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The mask, (H, W) uint8 of 0 and 1, that the polygons cover together."""
    from pycocotools import mask as coco_mask

    if not polygons:
        return np.zeros(size, dtype=np.uint8)
    encoded = coco_mask.merge(coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], *size))
    return decode_rle(encoded)


def clip_polygon(polygon: Polygon, window: Window) -> list[Polygon]:
    """The parts of a polygon that lie inside a rectangle.

    What a polygon holds follows the even-odd rule, as in COCO's rasterizer. So one that crosses itself loses
    nothing, where detectron2, which has shapely repair it first, may drop whole lobes. Only the parts of such
    a polygon can overlap.

    Args:
        polygon: (P, 2) xy.
        window: xyxy.

    Returns:
        Polygons inside the window, each with an area above 0; none where nothing lies inside.
    """
    x0, y0, x1, y1 = window
    parts = [polygon]
    if (polygon < (x0, y0)).any() or (polygon > (x1, y1)).any():
        # Each side of the window as axis, limit, and the direction of its inside.
        for axis, limit, inside in ((0, x0, 1.0), (0, x1, -1.0), (1, y0, 1.0), (1, y1, -1.0)):
            parts = [piece for part in parts for piece in _clip_at_line(part, axis, limit, inside)]
    return [part for part in parts if not _is_flat(part)]


def _clip_at_line(polygon: Polygon, axis: int, limit: float, inside: float) -> list[Polygon]:
    """The parts of a polygon on one side of the line where coordinate `axis` is `limit`.

    The outline is cut where it crosses the line. Along the line, the area is inside between the first and
    second crossing, the third and fourth, and so on; joining the pieces there closes them to polygons.
    """
    keep = (polygon[:, axis] - limit) * inside > 0
    if keep.all():
        return [polygon]
    if not keep.any():
        return []
    chains = _inner_chains(polygon, keep, axis, limit)
    ends = [(chain[side][1 - axis], number, side) for number, chain in enumerate(chains) for side in (0, -1)]
    ends.sort(key=lambda end: end[0])
    partner = {}
    for (_, *a), (_, *b) in zip(ends[::2], ends[1::2], strict=True):
        partner[tuple(a)], partner[tuple(b)] = tuple(b), tuple(a)
    return _joined(chains, partner)


def _inner_chains(polygon: Polygon, keep: npt.NDArray[np.bool_], axis: int, limit: float) -> list[Polygon]:
    """The pieces of the outline inside, each with its two crossings of the line as first and last point."""
    first_outside = int(np.flatnonzero(~keep)[0])
    points, keep = np.roll(polygon, -first_outside, axis=0), np.roll(keep, -first_outside)
    starts = np.flatnonzero(~keep & np.roll(keep, -1))  # outside, and the next point inside
    stops = np.flatnonzero(keep & ~np.roll(keep, -1))
    chains = []
    for start, stop in zip(starts, stops, strict=True):
        entry = _crossing(points[start], points[start + 1], axis, limit)
        leave = _crossing(points[stop], points[(stop + 1) % len(points)], axis, limit)
        chains.append(np.concatenate((entry[None], points[start + 1 : stop + 1], leave[None])))
    return chains


def _crossing(a: Polygon, b: Polygon, axis: int, limit: float) -> Polygon:
    point: Polygon = a + (b - a) * ((limit - a[axis]) / (b[axis] - a[axis]))
    point[axis] = limit  # rounding must not leave the window
    return point


def _joined(chains: list[Polygon], partner: dict[Any, Any]) -> list[Polygon]:
    """Closed polygons of open chains, where `partner` tells which end follows which.

    An end is (number of the chain, 0 or -1). Chains are walked backwards where they are met at their end.
    """
    polygons = []
    waiting = set(range(len(chains)))
    while waiting:
        first = min(waiting)
        here, pieces = (first, 0), []
        while True:
            number, side = here
            waiting.remove(number)
            pieces.append(chains[number] if side == 0 else chains[number][::-1])
            here = partner[(number, -1 if side == 0 else 0)]
            if here == (first, 0):
                break
        polygons.append(np.concatenate(pieces))
    return polygons


def _is_flat(polygon: Polygon) -> bool:
    """Whether all points lie on one line. The signed area is no measure: that of a bow tie is 0."""
    steps = polygon - polygon[0]
    far = steps[np.abs(steps).sum(axis=1).argmax()]
    return not (steps[:, 0] * far[1] - steps[:, 1] * far[0]).any()
