"""Where labels find room: none on another, all inside the picture, as near to their object as can be.

Legend: N objects, L labels that are placed, C places that are tried. A box is (x0, y0, x1, y1) in pixels, its
last row and column excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Box = tuple[int, int, int, int]

_FAR = 6  # how many heights of a label it may lie away from its object
_PATIENCE = 20  # after so many labels without room, the others look beside their objects alone
_WEIGHED = 50  # of the free places, these first ones are compared
_HIDDEN = 2.0  # what it costs to hide an object wholly, where 1 is the worst place beside one's own


@dataclass(frozen=True)
class Wanted:
    """A label that looks for room.

    Attributes:
        anchor: box of the object, of one pixel at least.
        sizes: (width, height) of the label, then of shorter forms of it.
        inside: boxes of the label in its first form that are better than any other place, best first.
    """

    anchor: Box
    sizes: tuple[tuple[int, int], ...]
    inside: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Placed:
    """Where a label stands.

    Attributes:
        index: of the label among those that wanted room.
        form: which of its `sizes` was taken.
        box: of the label.
        is_inside: it is one of the boxes that were better than any other.
    """

    index: int
    form: int
    box: Box
    is_inside: bool = False


class Room:
    """A picture's area, and what of it labels have taken."""

    def __init__(self, size_wh: tuple[int, int], objects: Sequence[Box] = ()) -> None:
        """Begin without labels.

        Args:
            size_wh: of the picture.
            objects: boxes that labels should not hide where there is another place.
        """
        self.width, self.height = size_wh
        self._taken = np.zeros((0, 4), np.int64)
        boxes = np.array(objects, np.int64).reshape(-1, 4)
        self._objects = boxes
        self._areas = np.maximum(1, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))

    def is_free(self, boxes: Array) -> Array:
        """Of boxes (C, 4), whether each lies inside the picture and on no label: (C,) bool."""
        inside = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2] <= self.width) & (boxes[:, 3] <= self.height)
        one, other = boxes.T[:, :, None], self._taken.T[:, None]  # (4, C, 1) and (4, 1, L)
        meets = (one[0] < other[2]) & (one[2] > other[0]) & (one[1] < other[3]) & (one[3] > other[1])
        return np.asarray(inside & ~meets.any(axis=1))

    def take(self, box: Box) -> None:
        """Let no other label stand there."""
        self._taken = np.concatenate([self._taken, [box]])

    def place(self, wanted: Wanted, index: int, *, far: bool = True) -> Placed | None:
        """Find room for a label, away from its object only if `far`, and take it; None: there is none."""
        for box in wanted.inside:
            if self.is_free(np.array([box]))[0]:
                return self._put(Placed(index, 0, box, is_inside=True))
        for near in (True, False) if far else (True,):
            for form, size in enumerate(wanted.sizes):
                box_or_none = self._best(wanted.anchor, size, near)
                if box_or_none is not None:
                    return self._put(Placed(index, form, box_or_none))
        return None

    def _put(self, placed: Placed) -> Placed:
        self.take(placed.box)
        return placed

    def _best(self, anchor: Box, size: tuple[int, int], near: bool) -> Box | None:
        corners = _beside(anchor, size) if near else _around(anchor, size)
        limits = np.array([self.width - size[0], self.height - size[1]])
        if limits.min() < 0:
            return None
        corners = np.clip(corners, 0, limits)
        boxes = np.concatenate([corners, corners + size], axis=1)
        places = np.flatnonzero(self.is_free(boxes) & (_touches(boxes, anchor) if near else True))
        if len(places) == 0:
            return None
        places = places[:_WEIGHED]
        hidden = (_overlap(boxes[places], self._objects) / self._areas).sum(axis=1)
        cost = places / len(boxes) + _HIDDEN * hidden
        x0, y0, x1, y1 = boxes[places[cost.argmin()]].tolist()
        return x0, y0, x1, y1


def place_all(room: Room, wanted: Sequence[Wanted], *, whole: bool = False) -> list[Placed] | None:
    """Place labels, the first ones best.

    Args:
        room: where.
        wanted: the labels.
        whole: give up, with None, as soon as one finds no room.
    """
    placed: list[Placed] = []
    in_vain = 0
    for index, label in enumerate(wanted):
        place = room.place(label, index, far=in_vain < _PATIENCE)
        if place is not None:
            placed.append(place)
        elif whole:
            return None
        else:
            in_vain += 1
    return placed


def _beside(anchor: Box, size: tuple[int, int]) -> Array:
    """Upper left corners of labels that touch an object: above, inside, below, beside; best first."""
    x0, y0, x1, y1 = anchor
    width, height = size
    right, bottom, middle = x1 - width, y1 - height, (y0 + y1 - height) // 2
    places = [
        *((x0, y0 - height), (x0, y0), (right, y0 - height), (right, y0)),
        *((x0, y1), (right, y1), (x0, bottom), (right, bottom)),
        *((x1, y0), (x1, middle), (x1, bottom), (x0 - width, y0), (x0 - width, middle), (x0 - width, bottom)),
        *((x, y0 + step * height) for step in (1, 2, 3) for x in (x0, right)),
        *(((x0 + right) // 2, y) for y in (y0 - height, y1, middle)),
    ]
    return np.array(places)


def _around(anchor: Box, size: tuple[int, int]) -> Array:
    """Upper left corners of labels at growing distances from an object, the nearest first."""
    x0, y0, x1, y1 = anchor
    width, height = size
    reach = _FAR * height
    xs = np.arange(x0 - width - reach, x1 + reach + 1, max(1, min(width // 3, height * 2)))
    ys = np.arange(y0 - height - reach, y1 + reach + 1, max(1, height // 2))
    xs, ys = xs[:: len(xs) // 30 + 1], ys[:: len(ys) // 30 + 1]  # of a large object, not every place
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    aside = np.maximum(0, np.maximum(x0 - (grid[:, 0] + width), grid[:, 0] - x1))
    above = np.maximum(0, np.maximum(y0 - (grid[:, 1] + height), grid[:, 1] - y1))
    return np.asarray(grid[np.argsort(aside + above, kind="stable")])


def _touches(boxes: Array, anchor: Box) -> Array:
    """Whether each box meets the object, or ends where it begins."""
    x0, y0, x1, y1 = anchor
    return np.asarray((boxes[:, 0] <= x1) & (boxes[:, 2] >= x0) & (boxes[:, 1] <= y1) & (boxes[:, 3] >= y0))


def _overlap(boxes: Array, others: Array) -> Array:
    """(C, N) areas that boxes (C, 4) and others (N, 4) share."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))
