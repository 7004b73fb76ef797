"""Panoptic quality: are the segments of a picture found, named and outlined as the annotators did.

A picture becomes a small record of plain numbers, which survives JSON unchanged, and the metrics are a
function of all records. Their sums are exactly rounded, so records may come from any number of processes or
from an interrupted run, in any order: the last digit stays the same.

With TP the matched pairs of segments, FP and FN what is left over on either side, a category has
SQ = mean IoU of its pairs, RQ = TP / (TP + FP / 2 + FN / 2) and PQ = SQ * RQ.

Legend: H and W of the picture, T segments of the ground truth, F segments found.

Source: Kirillov et al., "Panoptic Segmentation", 2019; void and crowd as in panopticapi, `evaluation.py` at
7bb4655.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image, UnidentifiedImageError

from resnest_zoo.annotations.tables import ImageId
from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, ImageError, ShapeError
from resnest_zoo.evaluation.segments import (
    MAX_ID,
    Array,
    SegmentMap,
    common_runs,
    distinct,
    segment_positions,
    things_and_stuff,
)
from resnest_zoo.structures import SizeHW


class CategoryMatches(TypedDict):
    """The segments of one category in one picture; TP is the number of IoUs."""

    category_id: int
    ious: list[float]
    fp: int
    fn: int


class PanopticRecord(TypedDict):
    """One picture's contribution to the panoptic metrics; categories without a segment are left out."""

    image_id: ImageId
    categories: list[CategoryMatches]


@dataclass(frozen=True)
class Quality:
    """Panoptic quality of one category, or the mean over several.

    Attributes:
        pq: in [0, 1].
        sq: mean IoU of the matched pairs, 0 without any.
        rq: F1 score of finding segments.
        tp: matched pairs; summed in a mean, as are `fp` and `fn`.
        fp: found segments that match nothing.
        fn: segments of the ground truth that nothing matches.
        num_categories: over which was averaged.
    """

    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int
    num_categories: int = 1


@dataclass(frozen=True)
class PanopticMetrics:
    """Means over the categories that have a segment, in the ground truth or as a mistake.

    Attributes:
        all: over things and stuff.
        things: over countable categories, None if none of them has a segment.
        stuff: over the others, likewise.
        per_category: those with a segment, by category id, in the order of `Categories`, things first.
    """

    all: Quality
    things: Quality | None
    stuff: Quality | None
    per_category: dict[int, Quality]


def encode_ids(ids: Array) -> Array:
    """The pixels that hold segment ids in COCO's panoptic PNGs: id = R + 256 * G + 65536 * B.

    Args:
        ids: (H, W) integers from 0 to 2**24 - 1.

    Returns:
        (H, W, 3) uint8, RGB. Inverse of `decode_ids`.

    Raises:
        ShapeError: `ids` is not (H, W) of integers.
        ImageError: an id does not fit three bytes.
    """
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ShapeError(f"expected ids (H, W) of integers, got {ids.shape} of {ids.dtype}")
    if ids.min(initial=0) < 0 or ids.max(initial=0) > MAX_ID:
        raise ImageError(f"segment ids are written as 0 to {MAX_ID}, got {ids.min()} to {ids.max()}")
    ids = ids.astype(np.int32)
    return np.stack([ids & 255, (ids >> 8) & 255, ids >> 16], axis=2).astype(np.uint8)  # (H, W, 3)


def decode_ids(pixels: Array) -> Array:
    """The segment ids that the pixels of a panoptic PNG hold.

    Args:
        pixels: (H, W, 3) uint8, RGB.

    Returns:
        (H, W) int32. Inverse of `encode_ids`.

    Raises:
        ShapeError: `pixels` is anything else.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ShapeError(f"expected pixels (H, W, 3) of uint8, got {pixels.shape} of {pixels.dtype}")
    red, green, blue = (pixels[:, :, channel].astype(np.int32) for channel in range(3))
    return red | green << 8 | blue << 16


def read_segment_map(path: str | Path, image_size: SizeHW | None = None) -> Array:
    """Read a panoptic PNG.

    Args:
        path: the PNG, 8 bits RGB.
        image_size: (H, W) it must have.

    Returns:
        (H, W) int32 segment ids, 0 for void.

    Raises:
        ImageError: the file is missing, damaged, no PNG, not RGB, or of another size.
    """
    try:
        # No other format: one that loses a bit loses the ids.
        with Image.open(Path(path), formats=["PNG"]) as picture:
            mode, pixels = picture.mode, np.asarray(picture)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file; expected the panoptic PNG of an image") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a PNG, or empty") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read: {error}") from error
    if mode != "RGB":
        raise ImageError(f"{path}: expected a panoptic PNG of mode RGB, got mode {mode}")
    if image_size is not None and pixels.shape[:2] != tuple(image_size):
        raise ImageError(
            f"{path}: expected {tuple(image_size)} pixels as (height, width), got {pixels.shape[:2]}"
        )
    return decode_ids(pixels)


def match_segments(truth: SegmentMap, found: SegmentMap, categories: Categories) -> PanopticRecord:
    """Match the segments of a prediction with the ground truth.

    Two segments of one category match when their IoU is above 0.5, which allows each one partner at most;
    pixels that are void in the ground truth do not count in the union. Crowd matches nothing and is not
    missed. A found segment without partner is ignored when more than half of it is void or crowd of its
    category.

    Args:
        truth: annotated; its areas are counted in the map.
        found: predicted, of the same picture.
        categories: the only ones that may occur; class 0 of `stuff` is none.

    Returns:
        Categories by rising id; IoUs by rising ids of the ground truth's segments.

    Raises:
        ImageError: the two are of different pictures, or on either side a pixel's id is no segment's, a
            segment has no pixel, or a category is unknown.
        ShapeError: the maps differ in size.
        ConfigError: a category id is a thing and stuff.

    Source: panopticapi, `evaluation.py`, `pq_compute_single_core`.
    """
    if truth.image_id != found.image_id:
        raise ImageError(f"ground truth of image {truth.image_id} but a prediction of image {found.image_id}")
    if truth.ids.shape != found.ids.shape:
        raise ShapeError(
            f"image {truth.image_id}: the ground truth is {truth.ids.shape} pixels as (height, width), "
            f"the prediction {found.ids.shape}"
        )
    truth_ids, found_ids, lengths = common_runs(truth.ids, found.ids)
    known = things_and_stuff(categories)
    rows = segment_positions(truth, truth_ids, known, "ground truth")
    columns = segment_positions(found, found_ids, known, "prediction")
    shape = (len(truth.segments) + 1, len(found.segments) + 1)
    # Weighted counts are float64, exact for whole numbers below 2**53.
    pixels = np.bincount(rows * shape[1] + columns, lengths, minlength=shape[0] * shape[1])
    matches = _match(truth, found, pixels.reshape(shape))  # (T + 1, F + 1)
    return {"image_id": truth.image_id, "categories": matches}


def _match(truth: SegmentMap, found: SegmentMap, pixels: Array) -> list[CategoryMatches]:
    """Apply the rules to `pixels`, (T + 1, F + 1): what each pair of segments shares, void first."""
    wanted, offered = truth.by_id, found.by_id
    truth_areas, found_areas = pixels[1:].sum(axis=1), pixels[:, 1:].sum(axis=0)
    void, shared = pixels[0, 1:], pixels[1:, 1:]
    unions = truth_areas[:, None] + found_areas - void - shared  # (T, F)
    truth_categories = np.array([segment.category_id for segment in wanted])
    found_categories = np.array([segment.category_id for segment in offered])
    crowd = np.array([segment.is_crowd for segment in wanted], dtype=bool)
    candidates = (truth_categories[:, None] == found_categories) & ~crowd[:, None]
    matched = candidates & (2 * shared > unions)  # (T, F)

    by_category: defaultdict[int, CategoryMatches] = defaultdict(
        lambda: {"category_id": 0, "ious": [], "fp": 0, "fn": 0}
    )
    for t, f in np.argwhere(matched).tolist():
        by_category[wanted[t].category_id]["ious"].append(float(shared[t, f] / unions[t, f]))
    for segment, has_partner in zip(wanted, matched.any(axis=1), strict=True):
        if not has_partner and not segment.is_crowd:
            by_category[segment.category_id]["fn"] += 1
    rows = {segment.id: row for row, segment in enumerate(wanted, start=1)}
    crowd_rows = {s.category_id: rows[s.id] for s in truth.segments if s.is_crowd}
    for f, segment in enumerate(offered):
        row = crowd_rows.get(segment.category_id)
        excused = void[f] + (0 if row is None else pixels[row, f + 1])
        if not matched[:, f].any() and 2 * excused <= found_areas[f]:
            by_category[segment.category_id]["fp"] += 1
    return [{**by_category[id], "category_id": id} for id in sorted(by_category)]


def panoptic_quality(records: Iterable[PanopticRecord], categories: Categories) -> PanopticMetrics:
    """Panoptic quality over all pictures.

    Args:
        records: one for each picture, in any order.
        categories: those the records were made with.

    Returns:
        Fractions. They do not depend on the order of the records, not even in the last digit.

    Raises:
        ImageError: two records are of one picture, or no record has a segment.
        ConfigError: a record's category is not in `categories`.

    Source: panopticapi, `evaluation.py`, `PQStat.pq_average`.
    """
    things = things_and_stuff(categories)
    ious: defaultdict[int, list[float]] = defaultdict(list)
    fp: Counter[int] = Counter()
    fn: Counter[int] = Counter()
    for record in distinct(records):
        for matches in record["categories"]:
            category_id = matches["category_id"]
            if category_id not in things:
                raise ConfigError(
                    f"the record of image {record['image_id']} has category id {category_id}, which none of "
                    f"the {len(things)} categories has; it was made with others"
                )
            ious[category_id] += matches["ious"]
            fp[category_id] += matches["fp"]
            fn[category_id] += matches["fn"]
    per_category = {id: _quality(ious[id], fp[id], fn[id]) for id in things if id in ious}
    total = _mean(list(per_category.values()))
    if total is None:
        raise ImageError("no picture has a segment, annotated or predicted; there is nothing to average")
    return PanopticMetrics(
        all=total,
        things=_mean([quality for id, quality in per_category.items() if things[id]]),
        stuff=_mean([quality for id, quality in per_category.items() if not things[id]]),
        per_category=per_category,
    )


def _quality(ious: list[float], fp: int, fn: int) -> Quality:
    tp = len(ious)
    total, weight = math.fsum(ious), tp + fp / 2 + fn / 2  # exactly rounded, whatever the order
    return Quality(total / weight, total / tp if tp else 0.0, tp / weight, tp, fp, fn)


def _mean(qualities: list[Quality]) -> Quality | None:
    if not qualities:
        return None
    count = len(qualities)
    return Quality(
        pq=math.fsum(quality.pq for quality in qualities) / count,
        sq=math.fsum(quality.sq for quality in qualities) / count,
        rq=math.fsum(quality.rq for quality in qualities) / count,
        tp=sum(quality.tp for quality in qualities),
        fp=sum(quality.fp for quality in qualities),
        fn=sum(quality.fn for quality in qualities),
        num_categories=count,
    )
