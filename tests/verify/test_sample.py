"""`--limit` and `--submission`: figures without a verdict, and a zip for COCO's server."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from benchmarks.verify import coco as module
from resnest_zoo.registry import Reported
from tests.verify.runs import Verify, claim, claimed_as_measured, results

pytestmark = pytest.mark.usefixtures("mirror")


def test_a_sample_of_right_numbers_is_partial_with_a_range(verify: Verify, coco: Path) -> None:
    claimed_as_measured(verify, coco, "tiny_mask")
    report = verify("tiny_mask", "--level", "coco", "--coco", coco, "--limit", "4")
    assert report.code == 3
    level = report.level("tiny_mask")
    assert (level["status"], level["summary"]) == ("partial", "4 pictures")
    figures = level["figures"]["plain"]
    assert figures["box"]["images"] == 4
    for comparison, kind in zip(level["comparisons"], ("box AP", "mask AP"), strict=True):
        assert comparison["status"] == "partial"
        low, high = figures["ranges"][kind]
        assert low < comparison["measured"] < high
        note = f"4 of 8 pictures; over all of them {low:.2f} to {high:.2f} (95%)"
        assert comparison["note"] == note
        assert note in report.out


def test_pq_of_a_sample_has_a_range_too(verify: Verify, coco: Path) -> None:
    claim("tiny_panoptic", Reported("COCO", "val2017", False, 1.5, 1.5, 1.5))
    report = verify("tiny_panoptic", "--level", "coco", "--coco", coco, "--limit", "2")
    low, high = report.level("tiny_panoptic")["figures"]["plain"]["ranges"]["PQ"]
    measured = report.measured("tiny_panoptic")["PQ, COCO val2017"]
    assert measured is not None
    assert 0 <= low <= measured <= high <= 100
    assert low < high


def test_the_sample_is_the_same_for_every_model_and_run(verify: Verify, coco: Path, tmp_path: Path) -> None:
    for name in ("tiny_detection", "tiny_mask"):
        verify(name, "--level", "coco", "--coco", coco, "--limit", "3")
    chosen = [
        sorted(
            int(line.partition(" ")[0])
            for line in (results(tmp_path, name) / "pictures.0.jsonl").read_text().splitlines()
        )
        for name in ("tiny_detection", "tiny_mask")
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 3
    assert results(tmp_path, "tiny_mask").name.startswith("val2017-3-")


def test_a_picture_without_objects_gives_no_verdict(
    verify: Verify, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_sample", lambda pictures, limit: pictures[4:5])
    annotations = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    assert all(row["image_id"] != 5002 for row in annotations["annotations"])
    report = verify("tiny_detection", "--level", "coco", "--coco", coco, "--limit", "1")
    assert report.code == 3, report.out
    (comparison,) = report.level("tiny_detection")["comparisons"]
    assert comparison["status"] == "partial"
    assert comparison["note"] == "these pictures have no object that counts"


def test_a_limit_beyond_all_pictures_takes_all(verify: Verify, coco: Path) -> None:
    claimed_as_measured(verify, coco, "tiny_detection")
    assert verify("tiny_detection", "--level", "coco", "--coco", coco, "--limit", "8", "--resume").code == 0


def test_a_submission_is_the_zip_that_cocos_server_takes(verify: Verify, coco: Path, tmp_path: Path) -> None:
    rows = (Reported("COCO", "val2017", False, 1.5), Reported("COCO", "test-dev2019", True, 53.3, 47.1))
    claim("tiny_mask", *rows)
    report = verify("tiny_mask", "--level", "coco", "--coco", coco, "--limit", "1", "--submission")
    level = report.level("tiny_mask")
    by_split = {path.name.partition("-")[0]: path for path in (tmp_path / "results" / "tiny_mask").iterdir()}
    assert set(by_split) == {"val2017", "test"}
    (line,) = level["details"]
    name = "detections_test-dev2017_tiny_mask_results"
    path = by_split["test"] / f"{name}.zip"
    assert line == f"for COCO's server: {path}, 3 pictures"
    assert line in report.out
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == [f"{name}.json"]
        found = json.loads(file.read(f"{name}.json"))
    assert {row["image_id"] for row in found} == {77, 78, 79}
    assert {tuple(row) for row in found} == {("image_id", "category_id", "bbox", "score", "segmentation")}
    assert json.loads((by_split["test"] / "conditions.json").read_text())["tta"] is True
    statuses = {row["conditions"]: row["status"] for row in level["comparisons"]}
    assert statuses == {"COCO val2017": "partial", "COCO test-dev2019, TTA": "not verifiable"}


def test_without_public_labels_nothing_is_computed(verify: Verify, coco: Path, tmp_path: Path) -> None:
    claim("tiny_mask", Reported("COCO", "test-dev2019", True, 53.3))
    report = verify("tiny_mask", "--level", "coco", "--coco", coco)
    assert report.code == 0
    level = report.level("tiny_mask")
    assert level["status"] == "not verifiable"
    assert level["summary"] == "no number is reported on a data set with public labels"
    assert not (tmp_path / "results").exists()
