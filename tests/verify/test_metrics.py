"""The whole of `verify` on the mini data set: its metrics are those of pycocotools and of a naive loop."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import resnest_zoo
from benchmarks.verify import datasets
from benchmarks.verify.grading import THRESHOLDS, TOLERANCE
from resnest_zoo.categories import COCO_PANOPTIC
from resnest_zoo.evaluation.segments import SegmentMap
from resnest_zoo.registry import Reported, info
from tests.evaluation.naive_panoptic import naive_matches
from tests.runtimes.eager import as_file
from tests.verify.golden_files import write_golden
from tests.verify.runs import Verify, claim, claimed_as_measured, forks, results


def alone(coco: Path, rows: list[dict[str, Any]], kind: str) -> float:
    """AP of these rows in percent, by pycocotools and nothing else."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco / "annotations" / "instances_val2017.json"))
        run = COCOeval(truth, truth.loadRes(rows), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return 100 * float(run.stats[0])


def naive_pq(coco: Path, folder: Path) -> float:
    """PQ in percent of the written PNG files, one pair of segments at a time."""
    annotations = coco / "annotations"
    truth = {a["image_id"]: a for a in _annotations(annotations / "panoptic_val2017.json")}
    found = {a["image_id"]: a for a in _annotations(folder / "panoptic.json")}
    assert truth.keys() == found.keys()
    sums: dict[int, tuple[list[float], int, int]] = {}
    for image_id, annotation in truth.items():
        mine = _segment_map(folder / "panoptic", found[image_id])
        matches = naive_matches(_segment_map(annotations / "panoptic_val2017", annotation), mine)
        for category, (ious, fp, fn) in matches.items():
            before = sums.get(category, ([], 0, 0))
            sums[category] = (before[0] + ious, before[1] + fp, before[2] + fn)
    qualities = [sum(ious) / (len(ious) + fp / 2 + fn / 2) for ious, fp, fn in sums.values()]
    return 100 * sum(qualities) / len(qualities)


def _annotations(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["annotations"]


def _segment_map(folder: Path, annotation: dict[str, Any]) -> SegmentMap:
    pixels = np.asarray(Image.open(folder / annotation["file_name"])).astype(np.int64)
    return SegmentMap.from_coco(pixels @ [1, 256, 256**2], annotation)


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", ["tiny_detection", "tiny_mask"])
def test_box_and_mask_ap_are_those_of_pycocotools(
    name: str, verify: Verify, coco: Path, tmp_path: Path
) -> None:
    masks = name == "tiny_mask"
    claim(name, Reported("COCO", "val2017", False, 1.5, 1.5 if masks else None))
    report = verify(name, "--level", "coco", "--coco", coco)
    rows = json.loads((results(tmp_path, name) / "detections.json").read_text())
    measured = report.measured(name)
    assert measured["box AP, COCO val2017"] == pytest.approx(alone(coco, rows, "bbox"), rel=1e-9)
    assert 5 < alone(coco, rows, "bbox") < 95  # else the comparison would say little
    if masks:
        assert measured["mask AP, COCO val2017"] == pytest.approx(alone(coco, rows, "segm"), rel=1e-9)
        assert 5 < alone(coco, rows, "segm") < 95
    assert report.code == 1  # the claims are wrong
    assert (
        f"box AP on COCO val2017: measured {measured['box AP, COCO val2017']:.2f}, reported 1.50, "
        in report.out
    )


@pytest.mark.usefixtures("mirror")
def test_an_exported_file_has_the_ap_of_its_model_where_its_limits_are_the_same(
    verify: Verify, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = "tiny_mask", tmp_path / "m.onnx"
    claim(name, Reported("COCO", "val2017", None, 1.5, 1.5), Reported("COCO", "val2017", True, 9.0))
    limits = {**THRESHOLDS, **datasets.COCO_SIZES}
    file = as_file(resnest_zoo.get(name, overrides=limits), path)
    monkeypatch.setattr("benchmarks.verify.coco.open_file", lambda given: {path: file}[given])
    of_file = verify(name, "--level", "coco", "--coco", coco, "--model-file", path)
    claim(name, Reported("COCO", "val2017", False, 1.5, 1.5))
    of_model = verify(name, "--level", "coco", "--coco", coco)
    assert of_file.measured(name) == pytest.approx(of_model.measured(name), abs=0.05)
    assert of_file.measured(name).keys() == {"box AP, COCO val2017", "mask AP, COCO val2017"}
    other = as_file(resnest_zoo.get(name, overrides={**limits, "TEST.DETECTIONS_PER_IMAGE": 7}), path)
    monkeypatch.setattr("benchmarks.verify.coco.open_file", lambda given: other)
    refused = verify(name, "--level", "coco", "--coco", coco, "--model-file", path)
    assert refused.code == 1
    assert "was exported with other limits than this evaluation has: --set MODEL.ROI_HEADS" in refused.out


@pytest.mark.usefixtures("mirror")
def test_panoptic_quality_is_that_of_a_naive_loop_over_the_written_maps(
    verify: Verify, coco: Path, tmp_path: Path
) -> None:
    claim("tiny_panoptic", Reported("COCO", "val2017", False, 1.5, 1.5, 1.5))
    report = verify("tiny_panoptic", "--level", "coco", "--coco", coco)
    folder = results(tmp_path, "tiny_panoptic")
    expected = naive_pq(coco, folder)
    assert 5 < expected < 95
    assert report.measured("tiny_panoptic")["PQ, COCO val2017"] == pytest.approx(expected, rel=1e-9)
    figures = report.level("tiny_panoptic")["figures"]["plain"]
    assert 100 * figures["panoptic"]["all"]["pq"] == pytest.approx(expected, rel=1e-9)
    assert 0 < figures["semantic"]["miou"] < 1
    known = {*COCO_PANOPTIC.thing_ids, *COCO_PANOPTIC.stuff_ids[1:]}
    for annotation in _annotations(folder / "panoptic.json"):
        assert {s["category_id"] for s in annotation["segments_info"]} <= known
        ids, areas = np.unique(_segment_map(folder / "panoptic", annotation).ids, return_counts=True)
        counted = dict(zip(ids.tolist(), areas.tolist(), strict=True))
        counted.pop(0, None)
        assert counted == {s["id"]: s["area"] for s in annotation["segments_info"]}


@forks
@pytest.mark.usefixtures("mirror")
def test_what_is_right_passes_on_all_four_levels(verify: Verify, coco: Path, tmp_path: Path) -> None:
    goldens = tmp_path / "golden"
    goldens.mkdir()
    write_golden(goldens, "tiny_mask")
    first = claimed_as_measured(verify, coco, "tiny_mask")
    options = ("--coco", coco, "--golden-dir", goldens, "--junit", tmp_path / "report.xml", "--workers", "2")
    report = verify("tiny_mask", *options)
    assert report.code == 0
    assert report.document["models"][0]["passed"] == ["bytes", "load", "golden", "coco"]
    # Workers and a second run make no difference, not in the last digit.
    assert report.measured("tiny_mask") == first.measured("tiny_mask")
    level = report.level("tiny_mask")
    assert level["summary"] == "8 pictures"
    assert {row["status"] for row in level["comparisons"]} == {"pass"}
    assert all(abs(row["difference"]) <= 0.005 for row in level["comparisons"])
    header, row = report.out.splitlines()[4:6]
    assert header.split() == ["model", "bytes", "load", "golden", "coco"]
    assert row.split() == ["tiny_mask", "pass", "pass", "pass", "pass"]
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "0", "0")
    assert [case.get("name") for case in suite] == ["bytes", "load", "golden", "coco"]


@pytest.mark.usefixtures("mirror")
def test_a_claim_beyond_the_tolerance_fails_and_one_within_passes(verify: Verify, coco: Path) -> None:
    first = claimed_as_measured(verify, coco, "tiny_detection")
    value = first.measured("tiny_detection")["box AP, COCO val2017"]
    assert value is not None
    for difference, code in ((0.9 * TOLERANCE, 0), (1.1 * TOLERANCE, 1), (-1.1 * TOLERANCE, 1)):
        claim("tiny_detection", Reported("COCO", "val2017", False, value + difference))
        report = verify("tiny_detection", "--level", "coco", "--coco", coco, "--resume")
        assert report.code == code
        (row,) = report.level("tiny_detection")["comparisons"]
        assert row["difference"] == pytest.approx(-difference)


@pytest.mark.usefixtures("mirror")
def test_a_model_that_finds_nothing_measures_zero(
    verify: Verify, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(THRESHOLDS, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    claim("tiny_mask", Reported("COCO", "val2017", False, 0.0, 0.0))
    report = verify("tiny_mask", "--level", "coco", "--coco", coco)
    assert report.code == 0, report.out
    assert report.measured("tiny_mask") == {"box AP, COCO val2017": 0.0, "mask AP, COCO val2017": 0.0}
    assert json.loads((results(tmp_path, "tiny_mask") / "detections.json").read_text()) == []


@pytest.mark.usefixtures("mirror")
def test_a_claim_of_masks_by_a_model_without_fails_by_name(verify: Verify, coco: Path) -> None:
    claim("tiny_detection", Reported("COCO", "val2017", False, mask=12.0))
    report = verify("tiny_detection", "--level", "coco", "--coco", coco, "--limit", "2")
    assert report.code == 1
    level = report.level("tiny_detection")
    assert level["summary"] == "mask AP on COCO val2017: the model has no such output"


@pytest.mark.usefixtures("mirror")
def test_the_conditions_of_a_run_are_beside_its_results(verify: Verify, coco: Path, tmp_path: Path) -> None:
    verify("tiny_detection", "--level", "coco", "--coco", coco, "--limit", "2", "--batch-size", "2")
    conditions = json.loads((results(tmp_path, "tiny_detection") / "conditions.json").read_text())
    assert conditions["weights"] == info("tiny_detection").artifact.sha256
    assert conditions["thresholds"] == {
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
        "TEST.DETECTIONS_PER_IMAGE": 100,
    }
    assert (conditions["pictures"], conditions["batch_size"], conditions["device"]) == (2, 2, "cpu")
    assert set(conditions["versions"]) >= {"torch", "torchvision", "pillow", "numpy", "resnest_zoo"}
