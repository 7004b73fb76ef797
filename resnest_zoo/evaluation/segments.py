"""Segment maps: what is said of every pixel of a picture, by annotators or by a model.

Panoptic quality and semantic IoU both start from here. A map is looked up per run of equal pixels, not per
pixel: segments are wide, so there are far fewer runs.

Legend: H and W of the picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from resnest_zoo.annotations.tables import ImageId, SegmentInfo, image_id_of, read_segments
from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, ImageError, ShapeError, shown, some
from resnest_zoo.structures import PanopticResult

Array = np.ndarray[Any, Any]
R = TypeVar("R", bound=Mapping[str, Any])

MAX_ID = 2**24 - 1  # three bytes of a PNG's pixel


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """Every pixel's segment in one picture, annotated or predicted.

    Attributes:
        image_id: of the picture, as in the data set.
        ids: (H, W) integers, a segment's id, or 0 for void: nobody decided what is there.
        segments: what the ids stand for. Of crowd regions of one category the last counts.

    Raises:
        ShapeError: `ids` is not (H, W) of integers, or empty.
        ImageError: an id is repeated, or beyond 1 ... 2**24 - 1.
    """

    image_id: ImageId
    ids: Array
    segments: tuple[SegmentInfo, ...]

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.dtype.kind not in "iu" or self.ids.size == 0:
            raise ShapeError(
                f"image {self.image_id}: expected a segment map (H, W) of integers, "
                f"got {self.ids.shape} of {self.ids.dtype}"
            )
        counts = Counter(segment.id for segment in self.segments)
        wrong = sorted(id for id, count in counts.items() if count > 1 or not 1 <= id <= MAX_ID)
        if wrong:
            raise ImageError(
                f"image {self.image_id}: segment ids are distinct and from 1 to {MAX_ID}, "
                f"got {some(wrong)} repeated or beyond; 0 is void"
            )

    @property
    def by_id(self) -> list[SegmentInfo]:
        """The segments by rising id."""
        return sorted(self.segments, key=lambda segment: segment.id)

    @classmethod
    def from_coco(cls, ids: Array, annotation: Mapping[str, Any]) -> SegmentMap:
        """The map of `ids`, usually from `read_segment_map`, and its annotation in COCO's panoptic JSON.

        A segment without `iscrowd` is no crowd. Areas are counted in the map, never read.

        Raises:
            ImageError: the annotation lacks `image_id` or `segments_info`, a segment lacks `id` or
                `category_id`, one of these is no whole number (pictures may have texts), `iscrowd` is no
                flag, or the segment ids are wrong.
            ShapeError: `ids` is not (H, W) of integers.
        """
        row = annotation if isinstance(annotation, Mapping) else {}
        segments, image_id = read_segments(row), image_id_of(row.get("image_id"))
        if segments is None or image_id is None:
            infos = row.get("segments_info")
            infos = infos if isinstance(infos, list) else []
            wrong = [info for info in infos if read_segments({"segments_info": [info]}) is None]
            raise ImageError(
                f"image {shown(image_id)}: expected a panoptic annotation: a dictionary with image_id and "
                "segments_info, a list of segments with whole numbers as id and category_id, and iscrowd 0, "
                f"1, true, false or left out; got {shown([*wrong, annotation][0])}"
            )
        return cls(image_id, ids, tuple(segments))

    def without(self, category_ids: Collection[int]) -> SegmentMap:
        """The same without segments of these categories; where they were is void."""
        others = [segment.id for segment in self.segments if segment.category_id in category_ids]
        if not others:
            return self
        segments = tuple(segment for segment in self.segments if segment.id not in others)
        return replace(self, ids=np.where(np.isin(self.ids, others), 0, self.ids), segments=segments)

    @classmethod
    def from_result(cls, image_id: ImageId, result: PanopticResult, categories: Categories) -> SegmentMap:
        """The map a model predicted."""
        segments = []
        for segment in result.segments:
            category_ids = categories.thing_ids if segment.is_thing else categories.stuff_ids
            segments.append(SegmentInfo(segment.id, category_ids[segment.class_index]))
        return cls(image_id, result.segment_map.cpu().numpy(), tuple(segments))


def common_runs(first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Two maps as runs of pixels, row after row, along which neither changes.

    Args:
        first: (H, W), not empty.
        second: (H, W).

    Returns:
        The value in `first`, the value in `second` and the length of each run, in their order.
    """
    first, second = first.ravel(), second.ravel()
    changes = first[1:] != first[:-1]
    changes |= second[1:] != second[:-1]
    last = np.append(np.flatnonzero(changes), first.size - 1)
    return first[last], second[last], np.diff(last, prepend=-1)


def segment_positions(segment_map: SegmentMap, ids: Array, known: Mapping[int, bool], role: str) -> Array:
    """The place of each id among the map's segments by rising id, from 1; void is 0.

    Args:
        segment_map: the map `ids` are from.
        ids: some ids of the map in any number and order, each at least once.
        known: category ids that may occur.
        role: which map this is, for messages.

    Raises:
        ImageError: an id is no segment's, a segment's id is not in `ids`, or its category is not in `known`.
    """
    where = f"image {segment_map.image_id}, {role}"
    for segment in segment_map.segments:
        if segment.category_id not in known:
            raise ImageError(
                f"{where}: segment {segment.id} has category id {segment.category_id}, which none of the "
                f"{len(known)} categories has; use the categories of this data set"
            )
    segment_ids = np.array([0, *(segment.id for segment in segment_map.by_id)])
    positions = np.minimum(np.searchsorted(segment_ids, ids), len(segment_ids) - 1)
    strange = ids[segment_ids[positions] != ids]
    if strange.size:
        raise ImageError(
            f"{where}: pixels have the ids {some(np.unique(strange).tolist())}, which no segment has; "
            "the map and its segments do not belong together"
        )
    counts = np.bincount(positions, minlength=len(segment_ids))
    absent = segment_ids[1:][counts[1:] == 0]
    if absent.size:
        raise ImageError(
            f"{where}: the segments {some(absent.tolist())} have no pixel; "
            "the map and its segments do not belong together"
        )
    return positions


def check_segments(truth: SegmentMap, categories: Categories) -> None:
    """Check an annotated map for everything that measuring on it needs.

    Raises:
        ImageError: a pixel's id is no segment's, a segment has no pixel, or a category is unknown.
        ConfigError: a category id is a thing and stuff.
    """
    ids, _, _ = common_runs(truth.ids, truth.ids)
    segment_positions(truth, ids, things_and_stuff(categories), "ground truth")


def things_and_stuff(categories: Categories) -> dict[int, bool]:
    """Whether a category is a thing, by category id; class 0 of `stuff`, which is no category, is left out.

    Raises:
        ConfigError: a category id is both.
    """
    things, stuff = categories.thing_ids, categories.stuff_ids[1:]
    both = sorted(set(things) & set(stuff))
    if both:
        raise ConfigError(f"categories: the ids {some(both)} are things and stuff; expected distinct ones")
    return {**dict.fromkeys(things, True), **dict.fromkeys(stuff, False)}


def distinct(records: Iterable[R]) -> Iterator[R]:
    """The records as they are, one for each picture.

    Raises:
        ImageError: two are of one picture.
    """
    seen: set[object] = set()
    for record in records:
        if record["image_id"] in seen:
            raise ImageError(f"image {record['image_id']} has two records; expected one for each picture")
        seen.add(record["image_id"])
        yield record
