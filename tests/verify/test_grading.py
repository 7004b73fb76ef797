"""Claims beside measurements: which agree, which do not, and which nobody can judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.verify.datasets import DataSet, Picture
from benchmarks.verify.grading import TOLERANCE, Measured, _range_of, compare, write_results
from benchmarks.verify.outcome import Finding, Status
from resnest_zoo.evaluation.detection import DetectionMetrics
from resnest_zoo.evaluation.panoptic import PanopticMetrics, Quality
from resnest_zoo.registry import Reported, info

_STATISTICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_STATISTICS += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")

PICTURES = tuple(Picture(k, Path(f"{k}.jpg"), (10, 10)) for k in range(8))


def metrics(percent: float | None) -> DetectionMetrics:
    ap = None if percent is None else percent / 100
    return DetectionMetrics("bbox", "none", "0", 8, 100, **dict.fromkeys(_STATISTICS, ap), per_category={})


def measured(
    box: float | None,
    mask: float | None = None,
    pq: float | None = None,
    ranges: dict[str, tuple[float, float]] | None = None,
) -> Measured:
    quality = None if pq is None else Quality(pq / 100, 0, 0, 1, 0, 0)
    panoptic = None if quality is None else PanopticMetrics(quality, None, None, {})
    return Measured(metrics(box), None if mask is None else metrics(mask), panoptic, None, ranges)


def data(deviation: str = "") -> DataSet:
    return DataSet("COCO", "val2017", PICTURES, "digest", Path("instances.json"), deviation=deviation)


def row(tta: bool | None = False, **numbers: float) -> Reported:
    return Reported("COCO", "val2017", tta, **numbers)


def statuses(finding: Finding) -> dict[str, str]:
    return {
        f"{c.metric}{', TTA' if 'TTA' in c.conditions else ''}": str(c.status) for c in finding.comparisons
    }


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (40.0, "pass"),
        (40.0 + 0.99 * TOLERANCE, "pass"),
        (40.0 - 0.99 * TOLERANCE, "pass"),
        (40.0 + 1.01 * TOLERANCE, "fail"),
        (40.0 - 1.01 * TOLERANCE, "fail"),
        (0.0, "fail"),
    ],
)
def test_a_number_passes_within_the_tolerance_on_either_side(value: float, status: str) -> None:
    finding = compare([row(box=40.0)], {False: measured(value)}, data(), 8)
    assert finding.status == status
    (comparison,) = finding.comparisons
    assert comparison.difference == pytest.approx(value - 40.0)


def test_one_wrong_number_among_right_ones_fails_and_is_named() -> None:
    finding = compare([row(box=40.0, mask=35.0)], {False: measured(40.0, 36.0)}, data(), 8)
    assert finding.status is Status.FAIL
    assert statuses(finding) == {"box AP": "pass", "mask AP": "fail"}
    expected = "mask AP on COCO val2017: measured 36.00, reported 35.00, 1.00 apart, tolerance 0.05"
    assert finding.summary == expected


def test_every_wrong_number_is_named() -> None:
    finding = compare([row(box=40.0, mask=35.0)], {False: measured(39.0, 36.0)}, data(), 8)
    assert finding.summary.startswith("box AP on COCO val2017: measured 39.00")
    assert [detail.partition(":")[0] for detail in finding.details] == ["mask AP on COCO val2017"]


def test_a_claim_that_the_model_cannot_answer_fails() -> None:
    finding = compare([row(box=40.0, mask=35.0)], {False: measured(40.0)}, data(), 8)
    assert finding.status is Status.FAIL
    assert finding.summary == "mask AP on COCO val2017: the model has no such output"


def test_test_time_augmentation_is_compared_with_itself() -> None:
    rows = [row(box=40.0), row(tta=True, box=42.0)]
    both = {False: measured(40.0), True: measured(42.0)}
    finding = compare(rows, both, data(), 8)
    assert finding.status is Status.PASS
    assert statuses(finding) == {"box AP": "pass", "box AP, TTA": "pass"}
    assert set(finding.figures) == {"plain", "with TTA"}
    assert compare(rows, {False: measured(42.0), True: measured(40.0)}, data(), 8).status is Status.FAIL


# The panoptic row, which does not say how boxes and masks were computed

PANOPTIC = row(tta=None, box=51.0, mask=43.0, pq=48.0)
PLAIN, AUGMENTED = measured(51.0, 43.0, 48.0), measured(51.0, 43.0)


@pytest.mark.parametrize(
    ("plain", "augmented", "expected"),
    [
        (PLAIN, measured(53.0, 45.0), ("pass", "pass", "not verifiable", "not verifiable", "pass")),
        (measured(49.0, 41.0, 48.0), AUGMENTED, ("not verifiable", "not verifiable", "pass", "pass", "pass")),
        (PLAIN, AUGMENTED, ("pass", "pass", "pass", "pass", "pass")),
        (PLAIN, measured(51.0, 45.0), ("pass", "pass", "not verifiable", "not verifiable", "pass")),
        # PQ has to agree, whichever the boxes are.
        (measured(49.0, 41.0, 47.0), AUGMENTED, ("not verifiable", "not verifiable", "pass", "pass", "fail")),
        # Neither agrees, or each in another number.
        (measured(49.0, 41.0, 48.0), measured(53.0, 45.0), ("fail", "fail", "fail", "fail", "pass")),
        (measured(51.0, 41.0, 48.0), measured(53.0, 43.0), ("pass", "fail", "fail", "pass", "pass")),
    ],
    ids=["plain", "augmented", "both", "plain in part", "PQ apart", "neither", "half and half"],
)
def test_where_augmentation_is_not_stated_one_of_two_has_to_agree(
    plain: Measured, augmented: Measured, expected: tuple[str, ...]
) -> None:
    finding = compare([PANOPTIC], {False: plain, True: augmented}, data(), 8)
    keys = ("box AP", "mask AP", "box AP, TTA", "mask AP, TTA", "PQ")
    assert tuple(statuses(finding)[key] for key in keys) == expected
    assert finding.status == ("fail" if "fail" in expected else "pass")
    excused = [c for c in finding.comparisons if c.status is Status.NOT_VERIFIABLE]
    assert all("the other one agrees" in c.note and c.measured is not None for c in excused)


def test_of_a_row_with_pq_alone_nothing_is_augmented() -> None:
    finding = compare([row(tta=None, pq=48.0)], {False: PLAIN, True: AUGMENTED}, data(), 8)
    assert finding.status is Status.PASS
    assert statuses(finding) == {"PQ": "pass"}


# What gives no verdict


def test_a_sample_never_passes_and_shows_the_range() -> None:
    ranges = {"box AP": (38.0, 44.5), "mask AP": (30.0, 34.0)}
    finding = compare([row(box=40.0, mask=35.0)], {False: measured(40.0, 35.0, ranges=ranges)}, data(), 3)
    assert finding.status is Status.PARTIAL
    assert finding.summary == "3 pictures"
    box, mask = finding.comparisons
    assert box.note == "3 of 8 pictures; over all of them 38.00 to 44.50 (95%)"
    assert mask.note == "3 of 8 pictures; over all of them 30.00 to 34.00 (95%)"
    assert (box.measured, box.difference) == (40.0, 0.0)


def test_one_picture_has_no_range() -> None:
    finding = compare([row(box=40.0)], {False: measured(40.0, ranges={})}, data(), 1)
    assert finding.status is Status.PARTIAL
    assert finding.comparisons[0].note == "1 of 8 pictures"


def test_where_no_object_counts_there_is_nothing_to_judge() -> None:
    finding = compare([row(box=40.0)], {False: measured(None, ranges={})}, data(), 1)
    assert finding.status is Status.PARTIAL
    assert finding.comparisons[0].note == "these pictures have no object that counts"


def test_other_pictures_than_the_published_ones_give_no_verdict() -> None:
    for value in (40.0, 10.0):
        finding = compare([row(box=40.0)], {False: measured(value)}, data("these are others"), 8)
        assert finding.status is Status.PARTIAL
        assert finding.summary == finding.comparisons[0].note == "these are others"


def test_the_row_of_test_dev_is_shown_and_does_not_count() -> None:
    rows = info("mask_cascade_resnest200_dcn_3x").reported
    finding = compare(rows, {False: measured(50.91, 44.50)}, data(), 8)
    assert finding.status is Status.PASS
    for c, claim in zip(finding.comparisons[2:], (53.30, 47.10), strict=True):
        assert (c.status, c.reported, c.measured) == (Status.NOT_VERIFIABLE, claim, None)
        assert c.conditions == "COCO test-dev2019, TTA"
        assert c.note == "no public labels; --submission writes what the server takes"


def test_the_range_of_pq_narrows_to_a_point_when_all_pictures_are_there() -> None:
    records = [{"image_id": k, "value": float(k)} for k in range(10)]

    def mean(sample: object) -> float:
        rows = list(sample)  # type: ignore[call-overload]
        assert len({row["image_id"] for row in rows}) == len(rows) == 10  # as the metric demands
        return float(sum(row["value"] for row in rows) / len(rows)) / 100

    low, high = _range_of(mean, records, population=10**9)
    assert low < 4.5 < high
    # The standard error of the mean is 0.91: 95 % lie within about twice as much.
    assert 1.3 < 4.5 - low < 2.3
    assert 1.3 < high - 4.5 < 2.3
    half = _range_of(mean, records, population=20)
    assert 4.5 - half[0] == pytest.approx((4.5 - low) / 2**0.5)
    assert _range_of(mean, records, population=10) == pytest.approx((4.5, 4.5))
    assert _range_of(mean, records, population=10**9) == (low, high)


def test_results_are_valid_json_with_and_without_detections(tmp_path: Path) -> None:
    detection = {"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    segments = {"image_id": 2, "file_name": "2.png", "segments_info": []}
    records = {
        1: json.dumps({"image_id": 1, "detections": []}),
        2: json.dumps({"image_id": 2, "detections": [detection, detection], "panoptic": segments}),
        3: json.dumps({"image_id": 3, "detections": [detection]}),
    }
    write_results(records, tmp_path)
    assert json.loads((tmp_path / "detections.json").read_text()) == [detection] * 3
    assert json.loads((tmp_path / "panoptic.json").read_text()) == {"annotations": [segments]}
    write_results({1: records[1]}, tmp_path / "..")
    assert json.loads((tmp_path / ".." / "detections.json").read_text()) == []
