"""The command line: what it refuses, what it says without weights and data, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.verify import command
from resnest_zoo.registry import MMDETECTION, PUBLISHED
from tests.verify.runs import Verify

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "name some models, or say --all"),
        (["--all", "faster_rcnn_resnet50"], "name some models, or say --all"),
        (["--all", "--golden-dir", "no/such/folder"], "no/such/folder is no folder"),
        (["--all", "--coco", "no/such/folder"], "no/such/folder is no folder"),
        (["--all", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["--all", "--level", "metrics"], "invalid choice: 'metrics'"),
        (["--all", "--limit", "0"], "expected a whole number from 1, got '0'"),
        (["--all", "--batch-size", "-1"], "expected a whole number from 1, got '-1'"),
        (["--all", "--workers", "few"], "expected a whole number from 0, got 'few'"),
        (["--all", "--json", "no/such/folder/report.json"], "no/such/folder is no folder"),
        (
            ["--all", "--model-file", "m.onnx"],
            "--model-file: its AP is what can be measured: add --level coco",
        ),
        (["--all", "--level", "coco", "--model-file", "m.onnx"], "name the one model that it is of"),
        (["x", "--level", "coco", "--model-file", "m.onnx", "--record"], "proves nothing of the model"),
        (["x", "--level", "coco", "--model-file", "m.onnx"], "there is no file m.onnx"),
        (["--all", "--junit", "no/such/folder/report.xml"], "no/such/folder is no folder"),
    ],
)
def test_wrong_usage_is_2_and_says_why(argv: list[str], complaint: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(argv)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "usage: python -m benchmarks.verify" in err
    assert complaint in err


def test_being_started_as_one_of_several_by_something_else_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command.main(["--all", "--level", "bytes"]) == 2
    assert (
        "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set; start with torchrun" in capsys.readouterr().err
    )


def test_a_device_that_is_not_there_is_2_and_fails_no_model(capsys: Capture) -> None:
    assert command.main(["--all", "--level", "golden", "--device", "cuda:77"]) == 2
    captured = capsys.readouterr()
    assert "error: --device cuda:77 cannot be used here: " in captured.err
    assert "fail" not in captured.out


def test_every_published_model_has_a_stored_output() -> None:
    """Also with another folder of mmdetection's files, whose names lack the ending."""
    files, problems = command._golden_files(command._GOLDEN_DIR)
    assert problems == []
    assert set(files) == {*PUBLISHED, *MMDETECTION}
    theirs, problems = command._golden_files(command._GOLDEN_DIR / "mmdet")
    assert problems == []
    assert set(theirs) == set(MMDETECTION)


def test_a_zoo_file_that_cannot_be_read_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_FILE", str(tmp_path / "no_zoo.yaml"))
    assert command.main(["mask_*", "--level", "bytes"]) == 2
    assert f"error: zoo file {tmp_path / 'no_zoo.yaml'}: cannot be read" in capsys.readouterr().err


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No net, no weights, no golden files in reach of the quick levels."""
    monkeypatch.setenv("RESNEST_ZOO_OFFLINE", "1")


@pytest.mark.usefixtures("nothing", "no_sockets")
def test_with_nothing_at_hand_each_model_says_what_is_missing_and_how_to_get_it(
    verify: Verify, tmp_path: Path
) -> None:
    report = verify("--all", *_levels("bytes", "load", "coco"), "--junit", tmp_path / "report.xml")
    assert report.code == 3
    assert [model["name"] for model in report.document["models"]] == [*PUBLISHED, *MMDETECTION]
    for name in (*PUBLISHED, *MMDETECTION):
        fetched, loaded, coco = (report.level(name, level) for level in ("bytes", "load", "coco"))
        assert fetched["status"] == coco["status"] == "weights unavailable"
        assert loaded["status"] == "not run"
        assert "offline" in fetched["summary"]
        how = "\n".join(fetched["details"])
        assert ("download.openmmlab.com" if name in MMDETECTION else "s3.us-west-1.wasabisys.com") in how
        assert "RESNEST_ZOO_MIRROR" in how
        what = "\n".join(coco["details"])
        assert "--coco DIR" in what
        assert "http://images.cocodataset.org/zips/val2017.zip" in what
        assert "annotations_trainval2017.zip" in what
        assert ("panoptic_annotations_trainval2017.zip" in what) == name.startswith("panoptic")
    assert all(f"\n{name}\n" in report.out for name in PUBLISHED)
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("87", "0", "87")


@pytest.mark.usefixtures("nothing")
def test_one_level_alone_says_how_to_get_the_weights_too(verify: Verify, coco: Path) -> None:
    report = verify("mask_rcnn_resnest50", "--level", "coco", "--coco", coco)
    assert report.code == 3
    level = report.level("mask_rcnn_resnest50")
    assert level["status"] == "weights unavailable"
    assert "RESNEST_ZOO_MIRROR" in "\n".join(level["details"])


@pytest.mark.usefixtures("mirror")
def test_missing_data_alone_are_3(verify: Verify) -> None:
    report = verify("tiny_mask")
    assert report.code == 3
    assert report.level("tiny_mask", "load")["status"] == "pass"
    level = report.level("tiny_mask")
    assert level["status"] == "data missing"
    assert level["summary"].startswith("COCO val2017 is needed: pass --coco DIR")


@pytest.mark.usefixtures("mirror")
def test_the_document_alone_is_printed_for_json_to_stdout(verify: Verify, capsys: Capture) -> None:
    assert command.main(["tiny_mask", "--level", "bytes", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["levels"] == ["bytes"]
    assert document["models"][0]["passed"] == ["bytes"]


@pytest.mark.usefixtures("mirror")
def test_models_come_in_the_order_they_are_named_each_once(verify: Verify) -> None:
    report = verify("tiny_panoptic", "TINY-mask", "tiny_*", "--level", "bytes")
    names = [model["name"] for model in report.document["models"]]
    assert names == ["tiny_panoptic", "tiny_mask", "tiny_detection", "tiny_cascade"]


@pytest.mark.usefixtures("mirror")
def test_levels_come_in_their_order_however_they_are_named(verify: Verify) -> None:
    report = verify("tiny_mask", "--level", "load", "--level", "bytes", "--level", "load")
    assert report.document["levels"] == ["bytes", "load"]
    assert report.code == 0


def _levels(*names: str) -> list[str]:
    return [word for name in names for word in ("--level", name)]
