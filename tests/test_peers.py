"""The comparison with peers: its table and file, and our side of it; its numbers are for quiet machines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers, records, speed, speed_page
from resnest_zoo.errors import ConfigError
from tests.test_cli import Capture


def found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> peers.Found:
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "classes": np.array(classes, np.int64),
    }


def test_differences_are_those_of_the_same_detections() -> None:
    theirs = found([[0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 70, 70]], [0.9, 0.8, 0.7], [1, 2, 3])
    ours = found([[20, 20, 40, 40.5], [0, 0, 10, 10], [60, 60, 70, 73]], [0.75, 0.9, 0.7], [2, 1, 3])
    assert peers._difference(ours, theirs) == ("2 of 3", "5.0e-01", "5.0e-02")


def test_a_detection_is_matched_once_and_only_with_its_class() -> None:
    theirs = found([[0, 0, 10, 10]], [0.9], [1])
    twice = found([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.9], [1, 1])
    other = found([[0, 0, 10, 10]], [0.9], [2])
    assert peers._difference(twice, theirs)[0] == "1 of 2"
    assert peers._difference(other, theirs)[0] == "0 of 1"
    assert peers._difference(found([], [], []), found([], [], [])) == ("0 of 0", "0.0e+00", "0.0e+00")


def row(contender: str, seconds: list[float]) -> peers.Contender:
    times = {"detectron2": [2.0, 4.0, 2.0], contender: seconds}
    memory = {"detectron2": 800.0, contender: 600.0}
    answers = dict.fromkeys(times, found([[0, 0, 1, 1]], [0.5], [0]))
    return peers._row("m", contender, "detectron2", times, memory, answers, (100, 1))


def test_a_ratio_is_that_of_neighbours_in_one_round() -> None:
    ours = row("optimized", [1.0, 1.0, 2.0])
    assert (ours.ratio, ours.low, ours.seconds, ours.memory_ratio) == (2.0, 1.0, 1.0, 0.75)
    assert (ours.matched, ours.box_pixels, ours.against) == ("1 of 1", "0.0e+00", "detectron2")


def test_rows_replace_those_of_the_same_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    peers.record([row("optimized", [1.0] * 3), row("exact", [2.0] * 3)])
    path = peers.record([row("optimized", [0.5] * 3)])
    with path.open(encoding="utf-8", newline="") as file:
        kept = {r["contender"]: r["ratio"] for r in csv.DictReader(file)}
    assert kept == {"optimized": "4.0", "exact": "1.0"}


def test_the_page_has_a_row_and_a_bar_for_each_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    peers.record([row("optimized", [1.0] * 3), row("exact", [2.0] * 3)])
    table, picture = speed_page.tables(), speed_page.bars()
    assert (
        "| `m` | 100 | 1 | optimized | 2.00 | 1.00 | 600 MB, 0.75 | 1 of 1 | 0.0e+00 px, 0.0e+00 |" in table
    )
    assert "x: times as fast as detectron2." in table
    assert picture.count("<rect") == 3
    assert 'width="300"' in picture


@pytest.mark.parametrize("names", ["detectron3", "detectron2,mmdet"])
def test_an_unknown_peer_is_refused(names: str, capsys: Capture) -> None:
    with pytest.raises(ConfigError, match="expected some of detectron2, torchvision, onnxruntime"):
        peers.check_peers(names)
    with pytest.raises(SystemExit):
        speed.main(["--peers", names])
    assert "--peers: unknown" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_our_side_detects_and_answers(capsys: Capture) -> None:
    argv = ["--peers", "", "--rounds", "1", "--threads", "2"]
    assert speed.main(["faster_rcnn_resnet50", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("exact" in line and "100 of 100" in line for line in lines)
