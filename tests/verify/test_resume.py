"""What is kept of an interrupted run, and what goes on from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.verify import coco as coco_level
from benchmarks.verify import command, grading
from benchmarks.verify.prediction import Records, _Reader
from resnest_zoo.cli.common import sole_run
from resnest_zoo.models.rcnn import PanopticFPN
from resnest_zoo.registry import Reported, info
from tests.verify.driver import DriverSettings
from tests.verify.mini_coco import SIZES, MiniCoco
from tests.verify.runs import Verify, claim, forks

ROOT = Path(__file__).parents[2]


def folders(tmp_path: Path, name: str = "tiny_panoptic") -> list[Path]:
    return sorted((tmp_path / "results" / name).iterdir(), key=lambda path: path.stat().st_ctime_ns)


@pytest.fixture
def arguments(coco: Path) -> list[object]:
    """A run that wants everything: boxes, masks, segments, pictures in company."""
    return ["tiny_panoptic", "--level", "coco", "--coco", coco, "--batch-size", "2"]


@pytest.mark.usefixtures("mirror")
def test_a_second_run_in_the_output_folder_is_refused(
    arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    with sole_run(output):
        assert command.main([*map(str, arguments), "--output", str(output)]) == 2
    assert "is at work here" in capsys.readouterr().err
    assert not output.exists()  # neither wrote anything


@pytest.mark.usefixtures("mirror")
def test_a_killed_run_goes_on_and_gives_the_same_report(
    arguments: list[object], verify: Verify, mini_coco: MiniCoco, tmp_path: Path
) -> None:
    claim("tiny_panoptic", Reported("COCO", "val2017", False, 1.5, 1.5, 1.5))
    whole = verify(*arguments, "--output", tmp_path / "unbroken")
    settings = DriverSettings((info("tiny_panoptic"),), SIZES, mini_coco.counts, kill_after=3)
    words = [*map(str, arguments), "--output", str(tmp_path / "results"), "--workers", "0"]
    process = subprocess.run(
        [sys.executable, "-m", "tests.verify.driver", str(settings.save(tmp_path)), *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    (folder,) = folders(tmp_path)
    kept = (folder / "pictures.0.jsonl").read_text()
    assert kept.count("\n") == 3  # two batches
    assert kept.endswith(',"detec')
    assert not (folder / "detections.json").exists()

    resumed = verify(*arguments, "--resume")
    assert folders(tmp_path) == [folder]
    assert resumed.text == whole.text
    after = (folder / "pictures.0.jsonl").read_text()
    assert after.startswith(kept.rpartition("\n")[0] + "\n")
    assert sorted(after.splitlines()) == sorted(_lines(tmp_path / "unbroken"))
    for name in ("detections.json", "panoptic.json"):
        (unbroken,) = (tmp_path / "unbroken" / "tiny_panoptic").iterdir()
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()


def _lines(output: Path) -> list[str]:
    (folder,) = (output / "tiny_panoptic").iterdir()
    return (folder / "pictures.0.jsonl").read_text().splitlines()


@pytest.mark.usefixtures("mirror")
def test_half_a_line_is_dropped_and_half_a_batch_is_computed_again(
    arguments: list[object], verify: Verify, tmp_path: Path
) -> None:
    whole = verify(*arguments)
    (folder,) = folders(tmp_path)
    file = folder / "pictures.0.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:4]) + lines[4][:50])  # the third batch is half
    (folder / "detections.json").unlink()
    assert verify(*arguments, "--resume").text == whole.text
    after = file.read_text().splitlines(keepends=True)
    assert after[:4] == lines[:4]
    assert sorted(after) == sorted([*lines, lines[3]])


@pytest.mark.usefixtures("mirror")
def test_a_finished_run_is_resumed_without_looking_at_a_picture(
    arguments: list[object], verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = verify(*arguments)
    monkeypatch.setattr(PanopticFPN, "run", None)
    assert verify(*arguments, "--resume").text == whole.text


@pytest.mark.usefixtures("mirror")
def test_without_resume_a_run_has_a_new_folder_and_the_old_stays_as_it_is(
    verify: Verify, coco: Path, tmp_path: Path
) -> None:
    options = ("tiny_detection", "--level", "coco", "--coco", coco, "--limit", "3")
    first = verify(*options)
    (folder,) = folders(tmp_path, "tiny_detection")
    assert folder.name.endswith("-1")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    second = verify(*options)
    old, new = folders(tmp_path, "tiny_detection")
    assert (old, new.name) == (folder, folder.name.removesuffix("1") + "2")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert first.text == second.text
    # The latest is resumed.
    (new / "pictures.0.jsonl").write_text("")
    verify(*options, "--resume")
    assert (new / "pictures.0.jsonl").read_bytes() == before["pictures.0.jsonl"]


@pytest.mark.usefixtures("mirror")
def test_other_conditions_have_another_folder(
    verify: Verify, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("tiny_detection", "--level", "coco", "--coco", coco, "--limit", "3", "--resume")
    verify(*options)
    for more in (["--batch-size", "2"], ["--dtype", "float64"], ["--limit", "2"]):
        verify(*options, *more)
    monkeypatch.setitem(grading.THRESHOLDS, "TEST.DETECTIONS_PER_IMAGE", 50)
    verify(*options)
    annotations = coco / "annotations" / "instances_val2017.json"
    content = json.loads(annotations.read_text())
    del content["annotations"][-1]
    edited = _with_annotations(coco, tmp_path, content)
    verify(*options[:4], edited, *options[5:])
    monkeypatch.setattr(coco_level, "_SEED", 1)  # other pictures, as many
    verify(*options[:4], edited, *options[5:])
    found = folders(tmp_path, "tiny_detection")
    assert len(found) == 7
    conditions = [json.loads((folder / "conditions.json").read_text()) for folder in found]
    assert [c["batch_size"] for c in conditions] == [1, 2, 1, 1, 1, 1, 1]
    assert [c["dtype"] for c in conditions] == ["float32", "float32", "float64"] + 4 * ["float32"]
    assert len({c["annotations"] for c in conditions}) == 2
    assert len({folder.name.rpartition("-")[0] for folder in found}) == 7
    # In float64 scores have more digits than float32 holds.
    for folder, dtype in zip(found, (c["dtype"] for c in conditions), strict=True):
        scores = [row["score"] for row in json.loads((folder / "detections.json").read_text())]
        assert all(score == float(np.float32(score)) for score in scores) == (dtype == "float32")


def _with_annotations(coco: Path, tmp_path: Path, content: object) -> Path:
    """The same data set with another instances file."""
    root = tmp_path / "other"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").symlink_to(coco / "val2017")
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


@forks
@pytest.mark.usefixtures("mirror")
def test_ctrl_c_says_how_to_go_on(
    arguments: list[object],
    verify: Verify,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    append, first = Records.append, []

    def interrupt(self: Records, rows: list[dict[str, Any]]) -> int:
        done = append(self, rows)
        if not first:
            first.append(done)
            os.kill(os.getpid(), signal.SIGINT)
        return done

    output = tmp_path / "results"
    words = [*map(str, arguments), "--output", str(output), "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(Records, "append", interrupt)
        assert command.main(words) == 130
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[-1] == f"interrupted: {output} keeps what was measured; the same command with --resume goes on"
    )
    assert "Traceback" not in "".join(lines)
    (folder,) = folders(tmp_path)
    assert (folder / "pictures.0.jsonl").read_text().count("\n") == 5  # two more batches had been computed
    assert verify(*arguments, "--resume").level("tiny_panoptic")["comparisons"]
    assert folders(tmp_path) == [folder]


def test_ctrl_c_before_anything_is_kept_says_only_that(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_verify", interrupt)
    assert command.main(["mask_rcnn_resnet50", "--level", "golden"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@forks
@pytest.mark.usefixtures("mirror")
def test_a_worker_that_the_system_ends_is_named_and_what_was_done_is_kept(
    arguments: list[object], verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _Reader.__call__

    def die(self: _Reader, index: int) -> Any:
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(_Reader, "__call__", die)
        report = verify(*arguments, "--workers", "1")
    assert report.code == 1
    level = report.level("tiny_panoptic")
    assert level["summary"].startswith("a process that reads pictures (pid ")
    assert "was ended by SIGKILL" in level["summary"]
    assert level["details"] == []
    assert verify(*arguments, "--resume").level("tiny_panoptic")["comparisons"]
    assert len(folders(tmp_path)) == 1
