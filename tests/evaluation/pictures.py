"""Small segment maps, drawn by hand or by chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnest_zoo.annotations.tables import SegmentInfo
from resnest_zoo.categories import Categories
from resnest_zoo.evaluation.segments import SegmentMap

CATEGORIES = Categories(("cat", "dog"), (1, 5), ("things", "sky", "grass"), (0, 7, 9))
CAT, DOG, SKY, GRASS = 1, 5, 7, 9


def segment_map(
    ids: Any, *segments: tuple[int, int] | tuple[int, int, bool], image_id: int = 1
) -> SegmentMap:
    """A map of segments given as (id, category id) or (id, category id, whether it is crowd)."""
    return SegmentMap(
        image_id, np.array(ids, dtype=np.int32), tuple(SegmentInfo(*segment) for segment in segments)
    )


def random_pair(rng: np.random.Generator, image_id: int) -> tuple[SegmentMap, SegmentMap]:
    """A truth with void and crowd, and a prediction that resembles it."""
    size = rng.integers(1, 30, 2)
    truth_ids = _cells(rng, size, rng.integers(1, 9))
    found_ids = np.roll(truth_ids, rng.integers(-2, 3, 2), (0, 1))
    other = _cells(rng, size, 4)
    found_ids = np.where(rng.random() < 0.5, np.where(other == other[0, 0], other, found_ids), found_ids)
    names = {id: rng.choice([CAT, DOG, SKY, GRASS, 0]) for id in np.unique(truth_ids)}
    renamed = {id: rng.choice([CAT, DOG, SKY, GRASS, 0]) for id in np.unique(found_ids)}
    found_names = {id: names[id] if id in names and rng.random() < 0.8 else renamed[id] for id in renamed}
    return (
        _with_void(rng, image_id, truth_ids, names, crowd_part=0.25),
        _with_void(rng, image_id, found_ids, found_names, crowd_part=0),
    )


def _cells(rng: np.random.Generator, size: Any, count: int) -> Any:
    """The cells nearest to `count` points, under ids as large as COCO's."""
    height, width = size
    points = rng.integers(0, size, (count, 2))
    rows, columns = np.mgrid[:height, :width]
    squares = (rows - points[:, 0, None, None]) ** 2 + (columns - points[:, 1, None, None]) ** 2  # (P, H, W)
    return rng.integers(1, 2**24, count)[squares.argmin(axis=0)]  # (H, W)


def _with_void(
    rng: np.random.Generator, image_id: int, ids: Any, names: Any, crowd_part: float
) -> SegmentMap:
    """Category 0 becomes void."""
    kept = [int(id) for id in rng.permutation(list(names)) if names[id] != 0]
    segments = [(id, int(names[id]), bool(rng.random() < crowd_part)) for id in kept]
    return segment_map(np.where(np.isin(ids, kept), ids, 0), *segments, image_id=image_id)
