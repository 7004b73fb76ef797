"""The level `golden`: true outputs pass, each planted difference fails by name, broken files hide nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnest_zoo.hub import Artifact
from resnest_zoo.registry import Entry, register
from tests.verify.golden_files import read_golden, write_golden
from tests.verify.runs import Report, Verify


@pytest.fixture
def check(verify: Verify, tmp_path: Path) -> Verify:
    """Run the level on the golden files in `tmp_path`."""

    def run(*argv: object) -> Report:
        return verify("--level", "golden", "--golden-dir", tmp_path, *argv)

    return run


@pytest.mark.usefixtures("tiny")
def test_true_outputs_pass_and_every_difference_is_in_the_report(check: Verify, tmp_path: Path) -> None:
    for name in ("tiny_detection", "tiny_panoptic"):
        write_golden(tmp_path, name)
    report = check("--all")
    assert report.code == 0
    assert [model["name"] for model in report.document["models"]] == ["tiny_detection", "tiny_panoptic"]
    assert "pass                 tiny_detection" in report.out
    detection, panoptic = (report.level(f"tiny_{kind}", "golden") for kind in ("detection", "panoptic"))
    assert detection["status"] == panoptic["status"] == "pass"
    assert detection["summary"] == "1 stored file, 0 differ"
    (line,) = detection["details"]
    for kind in ("features", "proposals", "objectness", "boxes", "scores", "classes"):
        assert f"  {kind} " in line
        assert detection["figures"]["tiny_detection.npz"][kind] < 1e-8
    (line,) = panoptic["details"]
    for kind in ("mask_area", "mask_bits", "sem_seg", "panoptic_seg", "segments"):
        assert f"  {kind} 0.0e+00" in line
        assert kind not in detection["figures"]["tiny_detection.npz"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("feature_p6", lambda a: a + 1e-4 * a.std()),
        ("proposals", lambda a: a + np.array([0, 0, 0, 2e-4])),
        ("objectness", lambda a: a * (1 + 1e-5)),
        ("boxes", lambda a: a + 2e-4),
        ("scores", lambda a: a + 2e-7),
        ("scores", lambda a: a * np.nan),
        ("classes", lambda a: np.append(a[:-1], a[-1] + 1)),
        ("boxes", lambda a: a[:-1]),
        ("mask_area", lambda a: a + 3),
        ("mask_bits", lambda a: a ^ 255),
    ],
)
def test_a_planted_difference_fails_by_name(key: str, change: Any, check: Verify, tmp_path: Path) -> None:
    path = write_golden(tmp_path, "tiny_mask")
    content = read_golden(path)
    np.savez(path, **(content | {key: change(content[key])}))
    report = check("tiny_mask")
    assert report.code == 1
    level = report.level("tiny_mask", "golden")
    assert level["status"] == "fail"
    assert level["summary"] == "1 stored file, 1 differ"
    assert level["details"][0].startswith("FAIL  tiny_mask.npz")
    assert level["details"][1].startswith(f"      {key}: ")
    assert level["details"][1] in report.out


@pytest.mark.usefixtures("tiny")
def test_one_broken_file_does_not_hide_the_others(check: Verify, tmp_path: Path) -> None:
    whole = write_golden(tmp_path, "tiny_mask").read_bytes()
    (tmp_path / "tiny_cascade.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tiny_detection.npz").write_bytes(b"")
    np.savez(tmp_path / "tiny_panoptic.npz", seed=0)
    report = check("--all")
    assert report.code == 1
    assert report.level("tiny_mask", "golden")["status"] == "pass"
    for kind in ("cascade", "detection", "panoptic"):
        level = report.level(f"tiny_{kind}", "golden")
        assert level["status"] == "fail"
        assert "cannot be checked: " in level["details"][1]
    assert "Traceback" not in report.out


@pytest.mark.usefixtures("tiny")
def test_a_file_of_an_unknown_model_fails(check: Verify, tmp_path: Path) -> None:
    write_golden(tmp_path, "tiny_mask").rename(tmp_path / "tiny_msk.npz")
    report = check("--all")
    assert report.code == 1
    expected = "tiny_msk.npz: No model is called 'tiny_msk'. Did you mean 'tiny_mask'"
    assert f"FAIL  {expected}" in report.out
    assert report.document["problems"][0].startswith(expected)


@pytest.mark.usefixtures("tiny")
def test_an_unknown_name_fails_and_the_others_are_checked(check: Verify, tmp_path: Path) -> None:
    write_golden(tmp_path, "tiny_mask")
    report = check("tiny_mask", "yolo*")
    assert report.code == 1
    assert "FAIL  No model is called 'yolo*'" in report.out
    assert report.level("tiny_mask", "golden")["status"] == "pass"


@pytest.mark.usefixtures("tiny")
def test_a_name_is_found_by_alias_and_checked_once(check: Verify, tmp_path: Path) -> None:
    write_golden(tmp_path, "tiny_mask")
    report = check("TINY-MASK", "tiny_m*", "tiny_mask")
    assert report.code == 0
    assert len(report.document["models"]) == 1


def test_an_empty_folder_is_no_success(check: Verify) -> None:
    report = check("--all")
    assert report.code == 1
    assert "no golden files" in report.out


@pytest.mark.usefixtures("tiny")
def test_a_model_without_a_file_is_not_verifiable_and_nothing_is_wrong(check: Verify) -> None:
    report = check("tiny_mask")
    assert report.code == 0
    assert report.level("tiny_mask", "golden")["status"] == "not verifiable"


@pytest.mark.usefixtures("tiny")
def test_opts_of_a_file_reach_the_model(check: Verify, tmp_path: Path) -> None:
    path = write_golden(tmp_path, "tiny_detection")
    content = read_golden(path)
    kept = {key: content[key][:2] for key in ("boxes", "scores", "classes")}
    np.savez(path, **(content | kept | {"opts": json.dumps(["TEST.DETECTIONS_PER_IMAGE", "2"])}))
    report = check("--all")
    assert report.code == 0, report.out


@pytest.mark.usefixtures("tiny")
def test_float32_has_a_tolerance_of_its_own(check: Verify, tmp_path: Path) -> None:
    path = write_golden(tmp_path, "tiny_mask")
    assert check("tiny_mask", "--dtype", "float32").code == 0
    content = read_golden(path)
    np.savez(path, **(content | {"boxes": content["boxes"] + 5e-4}))
    assert check("tiny_mask", "--dtype", "float32").code == 0
    assert check("tiny_mask").code == 1


@pytest.mark.usefixtures("own_registry")
def test_a_backbone_has_no_golden(check: Verify, tmp_path: Path) -> None:
    register(Entry("bone", "backbone", Artifact("bone.pth")))
    np.savez(tmp_path / "bone.npz", seed=0, size=[8, 8])
    report = check("--all")
    assert report.code == 0
    assert report.level("bone", "golden")["summary"] == "a backbone, not a detector"
