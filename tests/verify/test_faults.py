"""Planted faults: each is caught by the level that should, with a message that says what is wrong."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.fill import write_checkpoint
from resnest_zoo.config.loading import resolve_path
from resnest_zoo.hub import Artifact
from resnest_zoo.registry import Entry, info, register
from tests.verify.golden_files import write_golden
from tests.verify.runs import Verify, claimed_as_measured, results


@pytest.fixture
def own_files(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror whose only file is that of `tiny_mask`, for a test to damage."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    name = info("tiny_mask").artifact.filename
    (folder / name).write_bytes((tiny / name).read_bytes())
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(folder))
    return folder / name


@pytest.mark.parametrize("level", ["bytes", "load", "coco"])
def test_a_flipped_bit_in_the_weights_is_caught_by_bytes(
    own_files: Path, level: str, verify: Verify, coco: Path
) -> None:
    """Whatever level is asked for: a wrong file is no missing one."""
    content = bytearray(own_files.read_bytes())
    content[len(content) // 2] ^= 1
    own_files.write_bytes(content)
    report = verify("tiny_mask", "--level", level, "--coco", coco)
    assert report.code == 1
    found = report.level("tiny_mask", level)
    assert found["status"] == "fail"
    said = "\n".join((found["summary"], *found["details"]))
    assert "SHA-256" in said
    assert own_files.name in said
    assert info("tiny_mask").artifact.sha256 in said


def test_a_flipped_bit_in_the_cache_is_caught_though_size_and_time_are_right(
    own_files: Path, verify: Verify, tmp_path: Path
) -> None:
    assert verify("tiny_mask", "--level", "bytes").code == 0
    cached = tmp_path / "cache" / own_files.name
    before = cached.stat()
    content = bytearray(cached.read_bytes())
    content[-1] ^= 1
    cached.write_bytes(content)
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = verify("tiny_mask", "--level", "bytes", "--level", "load")
    assert report.code == 1
    assert f"{cached}: " in report.level("tiny_mask", "bytes")["summary"]
    assert report.level("tiny_mask", "load")["summary"] == "bytes failed"


def register_file(path: Path, name: str = "tiny_mask") -> None:
    """Let an entry have this file, whatever is in it."""
    register(replace(info(name), artifact=Artifact(path.name, path=path)), replace=True)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (
            lambda state: state.update(
                {"backbone.fpn_output2.wait": state.pop("backbone.fpn_output2.weight")}
            ),
            ("backbone.fpn_output2.weight", "backbone.fpn_output2.wait"),
        ),
        (
            lambda state: state.update({"backbone.fpn_output2.weight": torch.zeros(16, 16, 3, 1)}),
            ("backbone.fpn_output2.weight", "(16, 16, 3, 1)", "(16, 16, 3, 3)"),
        ),
        (lambda state: state.update({"third_head.bias": torch.zeros(3)}), ("third_head.bias",)),
    ],
    ids=["renamed", "reshaped", "one too many"],
)
def test_a_wrong_tensor_is_caught_by_load(
    own_files: Path, edit: Any, complaint: tuple[str, ...], verify: Verify, tmp_path: Path, coco: Path
) -> None:
    content = torch.load(own_files, weights_only=True)
    edit(content["model"])
    edited = tmp_path / "edited.pth"
    torch.save(content, edited)
    register_file(edited)
    report = verify("tiny_mask", "--coco", coco)
    assert report.code == 1
    # Nobody has published a hash of this file.
    assert report.level("tiny_mask", "bytes")["status"] == "not verifiable"
    load = report.level("tiny_mask", "load")
    assert load["status"] == "fail"
    said = "\n".join((load["summary"], *load["details"]))
    assert all(part in said for part in complaint)
    coco_level = report.level("tiny_mask")
    assert (coco_level["status"], coco_level["summary"]) == ("not run", "load failed")


def test_another_number_of_parameters_than_registered_is_caught_by_load(
    own_files: Path, verify: Verify
) -> None:
    register(replace(info("tiny_mask"), parameters=129_641), replace=True)
    report = verify("tiny_mask", "--level", "load")
    assert report.code == 1
    expected = "129,640 parameters, but the registry says 129,641"
    assert report.level("tiny_mask", "load")["summary"] == expected


@pytest.mark.usefixtures("mirror")
def test_a_config_that_cannot_be_read_fails_alone(verify: Verify, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("MODEL: {MASK_ONN: True}\n")
    register(replace(info("tiny_detection"), config=str(broken)), replace=True)
    report = verify("tiny_detection", "tiny_mask", "--level", "load")
    assert report.code == 1
    assert "MASK_ONN" in report.level("tiny_detection", "load")["summary"]
    assert report.level("tiny_mask", "load")["status"] == "pass"


# The architecture

_RESNET = """\
_BASE_: {base}
MODEL:
  RESNETS: {{DEPTH: 14, WIDTH_PER_GROUP: 8, RES2_OUT_CHANNELS: 16, STEM_OUT_CHANNELS: 8, {stride}}}
  FPN: {{OUT_CHANNELS: 16}}
  RPN: {{PRE_NMS_TOPK_TEST: 50, POST_NMS_TOPK_TEST: 50}}
  ROI_BOX_HEAD: {{FC_DIM: 16}}
INPUT: {{MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96, FORMAT: {order}}}
"""


def register_resnet(folder: Path, stride: str = "STRIDE_IN_1X1: True", order: str = "BGR") -> Entry:
    """A ResNet detector in the manner of the first detectron: BGR, its stride in the 1x1 convolution."""
    config = folder / "resnet.yaml"
    config.write_text(_RESNET.format(base=resolve_path("Base-RCNN-FPN.yaml"), stride=stride, order=order))
    entry = Entry("tiny_resnet", "object detection", Artifact("tiny_resnet.pth"), config=str(config))
    register(entry, replace=True)
    return entry


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ({}, None),
        ({"stride": "STRIDE_IN_1X1: False"}, "feature_p2"),
        ({"order": "RGB"}, "feature_p2"),
    ],
    ids=["none", "stride", "channels"],
)
@pytest.mark.usefixtures("own_registry", "tiny")
def test_a_wrong_key_of_a_config_is_caught_by_golden(
    fault: dict[str, str], first: str | None, verify: Verify, tmp_path: Path
) -> None:
    """Both faults load as well as the truth: no tensor changes its shape."""
    entry = register_resnet(tmp_path)
    write_golden(tmp_path, entry.name)
    facts = {"defaults": {"INPUT.FORMAT": "BGR"}, "models": {entry.config: {}}}
    (tmp_path / "configs.json").write_text(json.dumps(facts))
    register_resnet(tmp_path, **fault)
    register_file(write_checkpoint(entry.name, tmp_path / "files"), entry.name)
    report = verify(entry.name, "--golden-dir", tmp_path, "--level", "load", "--level", "golden")
    assert report.level(entry.name, "load")["status"] == "pass"
    level = report.level(entry.name, "golden")
    if first is None:
        assert (report.code, level["status"]) == (0, "pass"), level
        return
    assert (report.code, level["status"]) == (1, "fail")
    assert level["details"][1].startswith(f"      {first}: differs by ")


# The metrics


@pytest.mark.usefixtures("mirror")
def test_a_shifted_box_in_the_kept_results_is_caught_by_coco(
    verify: Verify, coco: Path, tmp_path: Path
) -> None:
    first = claimed_as_measured(verify, coco, "tiny_mask")
    options = ("tiny_mask", "--level", "coco", "--coco", coco, "--resume")
    assert verify(*options).measured("tiny_mask") == first.measured("tiny_mask")
    file = results(tmp_path, "tiny_mask") / "pictures.0.jsonl"
    lines = [line.split(" ", 1) for line in file.read_text().splitlines()]
    records = {image_id: json.loads(text) for image_id, text in lines}
    shifted = shift_the_best_match(records, coco)
    text = "".join(f"{image_id} {json.dumps(record)}\n" for image_id, record in records.items())
    file.write_text(text)
    report = verify(*options)
    assert report.code == 1
    box, mask = report.level("tiny_mask")["comparisons"]
    assert (box["status"], mask["status"]) == ("fail", "pass"), shifted
    assert report.level("tiny_mask")["summary"].startswith("box AP on COCO val2017: measured ")


def shift_the_best_match(records: dict[str, Any], coco: Path) -> dict[str, Any]:
    """Move the surest box that is right by its own width."""
    truth = json.loads((coco / "annotations" / "instances_val2017.json").read_text())["annotations"]
    rows = [row for record in records.values() for row in record["detections"]]
    for row in sorted(rows, key=lambda row: -row["score"]):
        for wanted in truth:
            same = wanted["image_id"] == row["image_id"] and wanted["category_id"] == row["category_id"]
            if same and all(abs(a - b) < 4 for a, b in zip(wanted["bbox"], row["bbox"], strict=True)):
                row["bbox"][0] += row["bbox"][2]
                return row
    raise AssertionError("no box is right")
