"""Segmentations as COCO's annotations hold them: polygons, and run-length encodings, compressed or not.

A run-length encoding lists how many pixels in turn are outside and inside a mask, down the columns, from the
left. It is read here and not by pycocotools, which returns memory it never wrote for an encoding that is too
short. Legend: H and W height and width, P points, T runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from resnest_zoo.errors import DataError

Polygon = npt.NDArray[np.float64]  # (P, 2) xy, pixels
Window = tuple[float, float, float, float]  # xyxy, pixels


def is_polygon(value: object) -> bool:
    """Whether `value` is a polygon of COCO: a flat list of x, y in turn, finite, of three points or more."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    if numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2:
        return False
    return bool(np.isfinite(numbers).all())


def is_rle(value: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Whether `value` encodes a mask of `size`, height and width: its runs fill that and no more."""
    if value.get("size") != list(size):
        return False
    try:
        runs = run_lengths(value.get("counts"))
    except DataError:
        return False
    return bool(runs.min(initial=0) >= 0 and runs.sum() == size[0] * size[1])


def run_lengths(counts: object) -> npt.NDArray[np.int64]:
    """The lengths of the runs, outside and inside in turn.

    Args:
        counts: a list of whole numbers, or COCO's compressed text: 6 bits a character from "0" on, of which
            the upper says that the number goes on and the others hold it from its lower end; from the fourth
            run on, what is stored is the difference to the run before the last.

    Returns:
        (T,).

    Raises:
        DataError: `counts` is neither.

    Source: cocodataset/cocoapi, `rleFrString`.
    """
    if isinstance(counts, (str, bytes)):
        return _decompress(counts.encode() if isinstance(counts, str) else counts)
    if isinstance(counts, Sequence) and all(type(run) is int and 0 <= run < 2**32 for run in counts):
        return np.array(counts, dtype=np.int64)
    raise DataError("run lengths are neither whole numbers nor COCO's compressed text")


def _decompress(text: bytes) -> npt.NDArray[np.int64]:
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - ord("0")
    if len(codes) == 0:
        return codes
    last = codes & 0x20 == 0  # the last character of each number
    if codes.min() < 0 or codes.max() > 0x3F or not last[-1]:
        raise DataError("run lengths are not COCO's compressed text")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    digit = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if digit.max() > 6:
        raise DataError("a compressed run length has more than 32 bits")
    numbers = np.add.reduceat((codes & 0x1F) << (5 * digit), starts)
    negative = codes[ends] & 0x10 != 0
    numbers -= negative.astype(np.int64) << (5 * (digit[ends] + 1))
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def decode_rle(rle: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """The mask, (H, W) uint8 of 0 and 1, of an encoding for which `is_rle` holds."""
    height, width = rle["size"]
    runs = run_lengths(rle["counts"])
    values = (np.arange(len(runs)) % 2).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)  # (H, W)


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
