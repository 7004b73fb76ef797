"""Panoptic quality against a naive loop, against numbers worked out by hand, and through COCO's files."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, ImageError, ShapeError
from resnest_zoo.evaluation.panoptic import (
    PanopticRecord,
    Quality,
    decode_ids,
    encode_ids,
    match_segments,
    panoptic_quality,
    read_segment_map,
)
from resnest_zoo.evaluation.segments import SegmentMap
from tests.evaluation.naive_panoptic import Matches, naive_matches
from tests.evaluation.pictures import CAT, CATEGORIES, DOG, GRASS, SKY, random_pair, segment_map


def matches(truth: SegmentMap, found: SegmentMap) -> Matches:
    """What `match_segments` counts, in the oracle's form."""
    record = match_segments(truth, found, CATEGORIES)
    return {row["category_id"]: (row["ious"], row["fp"], row["fn"]) for row in record["categories"]}


def random_records(count: int) -> list[PanopticRecord]:
    rng = np.random.default_rng(1)
    return [match_segments(*random_pair(rng, image_id), CATEGORIES) for image_id in range(count)]


def test_random_pictures_match_as_the_naive_loop_has_them() -> None:
    rng = np.random.default_rng(0)
    seen = {"tp": 0, "fp": 0, "fn": 0, "ignored": 0, "crowd": 0}
    for image_id in range(600):
        truth, found = random_pair(rng, image_id)
        ours, naive = matches(truth, found), naive_matches(truth, found)
        assert ours.keys() == naive.keys()
        for category_id, (ious, fp, fn) in naive.items():
            assert ours[category_id][0] == pytest.approx(ious, rel=0, abs=1e-12)
            assert ours[category_id][1:] == (fp, fn)
            seen["tp"] += len(ious)
            seen["fp"] += fp
            seen["fn"] += fn
        seen["ignored"] += len(found.segments) - sum(len(ious) + fp for ious, fp, _ in naive.values())
        seen["crowd"] += sum(segment.is_crowd for segment in truth.segments)
    assert min(seen.values()) > 100, seen  # every rule has been at work


def test_the_truth_predicted_back_is_exactly_one() -> None:
    records = []
    for image_id in range(20):
        truth, _ = random_pair(np.random.default_rng(image_id), image_id)
        truth = replace(truth, segments=tuple(replace(s, is_crowd=False) for s in truth.segments))
        records.append(match_segments(truth, truth, CATEGORIES))
    metrics = panoptic_quality(records, CATEGORIES)
    assert metrics.things is not None
    assert metrics.stuff is not None
    for quality in (metrics.all, metrics.things, metrics.stuff, *metrics.per_category.values()):
        assert (quality.pq, quality.sq, quality.rq, quality.fp, quality.fn) == (1, 1, 1, 0, 0)
    assert metrics.all.num_categories == len(metrics.per_category) == 4


def test_nothing_predicted_is_zero() -> None:
    truth = segment_map([[3, 3, 8]], (3, CAT), (8, SKY))
    metrics = panoptic_quality([match_segments(truth, segment_map([[0, 0, 0]]), CATEGORIES)], CATEGORIES)
    assert metrics.all == Quality(pq=0, sq=0, rq=0, tp=0, fp=0, fn=2, num_categories=2)


def test_metrics_follow_the_definition() -> None:
    """Two cats with IoU 3/4 and 1, a dog never found, sky found where there is none."""
    truth = segment_map([[1, 1, 1, 2, 3, 3]], (1, CAT), (2, CAT), (3, DOG))
    found = segment_map([[7, 7, 7, 8, 9, 9]], (7, CAT), (8, CAT), (9, SKY))
    wider = segment_map([[1, 1, 1, 1, 0, 0]], (1, CAT), image_id=2)
    shifted = segment_map([[7, 7, 7, 8, 0, 0]], (7, CAT), (8, CAT), image_id=2)
    records = [match_segments(truth, found, CATEGORIES), match_segments(wider, shifted, CATEGORIES)]
    metrics = panoptic_quality(records, CATEGORIES)
    cat = metrics.per_category[CAT]  # three pairs, and the second picture's one pixel too much
    assert (cat.tp, cat.fp, cat.fn) == (3, 1, 0)
    assert cat.sq == pytest.approx((1 + 1 + 3 / 4) / 3, abs=1e-15)
    assert cat.rq == pytest.approx(3 / 3.5, abs=1e-15)
    assert cat.pq == pytest.approx(cat.sq * cat.rq, abs=1e-15)
    assert list(metrics.per_category) == [CAT, DOG, SKY]  # no grass anywhere
    assert metrics.things == Quality(cat.pq / 2, cat.sq / 2, cat.rq / 2, 3, 1, 1, num_categories=2)
    assert metrics.stuff == Quality(0, 0, 0, 0, 1, 0, num_categories=1)
    assert metrics.all.pq == pytest.approx(cat.pq / 3, abs=1e-15)


@pytest.mark.parametrize(
    ("truth_row", "found_row", "expected"),
    [
        ([1, 1, 2, 2], [1, 0, 0, 0], ([], 1, 1)),  # 1 of 2 pixels: exactly one half
        ([1, 1, 1, 2], [1, 1, 0, 0], ([2 / 3], 0, 0)),
        ([1, 1, 1, 2], [1, 1, 1, 1], ([3 / 4], 0, 0)),
        ([1, 0, 0, 2], [1, 1, 1, 0], ([1.0], 0, 0)),  # void does not count in the union
        ([0, 0, 0, 2], [1, 1, 1, 0], ([], 0, 0)),  # on void alone: ignored
        ([0, 0, 2, 2], [1, 1, 1, 1], ([], 1, 0)),  # half of it on void: not ignored
        ([0, 0, 0, 2], [1, 1, 1, 1], ([], 0, 0)),  # more than half
        ([1, 2, 2, 2], [1, 0, 0, 0], ([1.0], 0, 0)),  # one pixel
    ],
)
def test_what_matches_and_what_is_ignored(
    truth_row: list[int], found_row: list[int], expected: tuple[list[float], int, int]
) -> None:
    """Segment 1 is a cat, segment 2 grass that nobody looks for."""
    truth = segment_map([truth_row], *[(id, {1: CAT, 2: GRASS}[id]) for id in {*truth_row} - {0}])
    found = segment_map([found_row], *[(id, CAT) for id in {*found_row} - {0}])
    assert matches(truth, found).get(CAT, ([], 0, 0)) == expected


def test_crowd_is_neither_found_nor_missed() -> None:
    truth = segment_map([[1, 1, 1, 0]], (1, CAT, True))
    assert matches(truth, segment_map([[0, 0, 0, 0]])) == {}
    assert matches(truth, segment_map([[4, 4, 4, 0]], (4, CAT))) == {}  # all of it, and no pair
    assert matches(truth, segment_map([[4, 4, 4, 0]], (4, DOG))) == {DOG: ([], 1, 0)}  # crowd of cats only


def test_void_and_crowd_excuse_together() -> None:
    truth = segment_map([[1, 0, 2, 2]], (1, CAT, True), (2, GRASS))
    assert matches(truth, segment_map([[4, 4, 4, 0]], (4, CAT)))[GRASS] == ([], 0, 1)
    assert CAT not in matches(truth, segment_map([[4, 4, 4, 0]], (4, CAT)))
    assert matches(truth, segment_map([[4, 4, 4, 4]], (4, CAT)))[CAT] == ([], 1, 0)  # exactly half


def test_of_two_crowd_regions_of_a_category_the_last_excuses() -> None:
    first, last = (1, CAT, True), (2, CAT, True)
    found = segment_map([[4, 4, 4, 0]], (4, CAT))
    assert matches(segment_map([[1, 1, 1, 2]], first, last), found) == {CAT: ([], 1, 0)}
    assert matches(segment_map([[1, 1, 1, 2]], last, first), found) == {}


def test_a_wrong_category_is_a_mistake_on_both_sides() -> None:
    truth, found = segment_map([[1, 1]], (1, CAT)), segment_map([[1, 1]], (1, DOG))
    assert matches(truth, found) == {CAT: ([], 0, 1), DOG: ([], 1, 0)}


def test_records_survive_json_and_come_in_any_order() -> None:
    """Any sharding over processes, with or without a detour over the disk, gives the same last digit."""
    records = random_records(300)
    metrics = panoptic_quality(records, CATEGORIES)
    assert 0.1 < metrics.all.pq < 0.9
    for seed in range(5):
        shuffled = random.Random(seed).sample(records, len(records))
        assert panoptic_quality(iter(json.loads(json.dumps(shuffled))), CATEGORIES) == metrics


def test_groups_without_a_segment_have_no_mean() -> None:
    truth = segment_map([[1, 1]], (1, CAT))
    metrics = panoptic_quality([match_segments(truth, truth, CATEGORIES)], CATEGORIES)
    assert metrics.things == metrics.all
    assert metrics.stuff is None
    assert list(metrics.per_category) == [CAT]
    empty = segment_map([[0, 0]])
    with pytest.raises(ImageError, match="no picture has a segment, annotated or predicted"):
        panoptic_quality([match_segments(empty, empty, CATEGORIES)], CATEGORIES)


def test_a_picture_counts_once() -> None:
    record = random_records(1)[0]
    with pytest.raises(ImageError, match="image 0 has two records; expected one for each picture"):
        panoptic_quality([record, record], CATEGORIES)


def test_records_belong_to_the_categories() -> None:
    truth = segment_map([[1, 1]], (1, DOG))
    record = match_segments(truth, truth, CATEGORIES)
    with pytest.raises(ConfigError, match="record of image 1 has category id 5, which none of the 1"):
        panoptic_quality([record], Categories(("cat",), (1,)))
    both = Categories(("cat",), (1,), ("things", "sky"), (0, 1))
    with pytest.raises(ConfigError, match="the ids 1 are things and stuff"):
        match_segments(truth, truth, both)


def _pair_of_sides(wrong: SegmentMap, right: SegmentMap, side: str) -> tuple[SegmentMap, SegmentMap]:
    return (wrong, right) if side == "ground truth" else (right, wrong)


@pytest.mark.parametrize("side", ["ground truth", "prediction"])
def test_maps_and_segments_belong_together(side: str) -> None:
    right = segment_map([[1, 2]], (1, CAT), (2, SKY), image_id=139)
    unknown = segment_map([[1, 9]], (1, CAT), image_id=139)
    with pytest.raises(ImageError, match=f"image 139, {side}: pixels have the ids 9, which no segment has"):
        match_segments(*_pair_of_sides(unknown, right, side), CATEGORIES)
    # 9 is beyond all known ids, 1 between them, and -1 before.
    between = segment_map([[1, -1]], (2, SKY), image_id=139)
    with pytest.raises(ImageError, match="pixels have the ids -1, 1, which no segment has"):
        match_segments(*_pair_of_sides(between, right, side), CATEGORIES)
    absent = segment_map([[1, 1]], (1, CAT), (8, SKY), image_id=139)
    with pytest.raises(ImageError, match=f"image 139, {side}: the segments 8 have no pixel"):
        match_segments(*_pair_of_sides(absent, right, side), CATEGORIES)
    for id in (99, 0):  # 0 names "things", which is no category
        strange = segment_map([[1, 1]], (1, id), image_id=139)
        with pytest.raises(
            ImageError, match=f"139, {side}: segment 1 has category id {id}, which none of the 4"
        ):
            match_segments(*_pair_of_sides(strange, right, side), CATEGORIES)


def test_maps_are_of_one_picture() -> None:
    truth = segment_map([[1, 1]], (1, CAT))
    with pytest.raises(ImageError, match="ground truth of image 1 but a prediction of image 2"):
        match_segments(truth, segment_map([[1, 1]], (1, CAT), image_id=2), CATEGORIES)
    with pytest.raises(ShapeError, match=r"image 1: the ground truth is \(1, 2\) .* the prediction \(2, 1\)"):
        match_segments(truth, segment_map([[1], [1]], (1, CAT)), CATEGORIES)


def test_ids_keep_all_three_bytes(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255, 256], [65535, 65536, 0x0A0B0C, 2**24 - 1]])
    pixels = encode_ids(ids)
    assert pixels[1, 2].tolist() == [0x0C, 0x0B, 0x0A]  # R + 256 * G + 65536 * B
    Image.fromarray(pixels).save(tmp_path / "map.png")
    read = read_segment_map(tmp_path / "map.png", (2, 4))
    assert read.dtype == np.int32
    assert np.array_equal(read, ids)
    for small in (np.uint8, np.int8, np.uint64):
        assert encode_ids(np.array([[100]], dtype=small)).tolist() == [[[100, 0, 0]]]
    for wrong in (-1, 2**24):
        with pytest.raises(ImageError, match=f"written as 0 to 16777215, got {wrong} to {wrong}"):
            encode_ids(np.array([[wrong]]))
    with pytest.raises(ShapeError, match=r"expected ids \(H, W\) of integers, got \(1, 1\) of float64"):
        encode_ids(np.ones((1, 1)))
    with pytest.raises(ShapeError, match=r"expected pixels \(H, W, 3\) of uint8, got \(2, 4\) of int64"):
        decode_ids(ids)


def test_files_that_hold_no_segment_map(tmp_path: Path) -> None:
    def saved(name: str, picture: Image.Image) -> Path:
        picture.save(tmp_path / name)
        return tmp_path / name

    right = saved("right.png", Image.new("RGB", (4, 2)))
    with pytest.raises(ImageError, match=r"right\.png: expected \(4, 2\) .* \(height, width\), got \(2, 4\)"):
        read_segment_map(right, (4, 2))
    with pytest.raises(ImageError, match=r"absent\.png: no such file"):
        read_segment_map(tmp_path / "absent.png")
    with pytest.raises(ImageError, match=r"grey\.png: expected a panoptic PNG of mode RGB, got mode L"):
        read_segment_map(saved("grey.png", Image.new("L", (4, 2))))
    with pytest.raises(ImageError, match=r"lossy\.jpg: not a PNG"):
        read_segment_map(saved("lossy.jpg", Image.new("RGB", (4, 2))))
    half = tmp_path / "half.png"
    half.write_bytes(right.read_bytes()[:45])
    with pytest.raises(ImageError, match=r"half\.png: cannot be read"):
        read_segment_map(half)
    with pytest.raises(ImageError, match="cannot be read"):
        read_segment_map(tmp_path)
