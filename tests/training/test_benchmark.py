"""The benchmark of training: its table, and our side of it; its numbers are for quiet machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ratios import Row
from benchmarks.train_side import BATCH, draw_samples
from benchmarks.train_speed import Comparison


def test_a_row_says_how_many_times_as_fast_and_how_much_memory() -> None:
    met = Comparison(Row("m", [0.5, 0.25, 0.5], [0.75, 0.5, 0.5], 1.0), 900.0, 1000.0)
    assert met.cells() == ["m", "2.000", "2.000", "1.500", "1.000", "900", "1000", "0.900", "met"]
    assert met.passed


def test_slower_or_larger_misses() -> None:
    slower = Comparison(Row("m", [0.5], [0.4], 1.0), 900.0, 1000.0)
    larger = Comparison(Row("m", [0.5], [0.5], 1.0), 1001.0, 1000.0)
    assert [c.passed for c in (slower, larger)] == [False, False]
    assert [c.cells()[-1] for c in (slower, larger)] == ["MISSED", "MISSED"]


def test_alone_there_is_nothing_to_miss() -> None:
    alone = Comparison(Row("m", [0.5], None, 1.0), 900.0, None, "alone")
    assert alone.cells() == ["m", "2.000", "", "", "", "900", "", "", "alone"]
    assert alone.passed


def test_drawn_instances_lie_in_their_pictures() -> None:
    samples = draw_samples((64, 96), 2 * BATCH)
    assert len(samples) == 2 * BATCH
    for sample in samples:
        boxes = sample.targets.boxes
        assert sample.image.shape == (3, 64, 96)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= boxes.new_tensor([96, 64])).all()


@pytest.mark.slow
def test_our_side_trains_and_answers_each_turn() -> None:
    command = [sys.executable, "-m", "benchmarks.train_speed", "mask_rcnn_resnet50", "--json"]
    command += ["--size", "64", "96", "--rounds", "2", "--iterations", "1"]
    command += ["--opts", "MODEL.RESNETS.DEPTH", "14", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=300
    )
    (row,) = json.loads(done.stdout)
    assert row["speed"]["name"] == "mask_rcnn_resnet50"
    assert len(row["speed"]["ours"]) == 2
    assert min(row["speed"]["ours"]) > 0
    assert row["ours_mb"] > 100
