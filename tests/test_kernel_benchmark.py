"""The benchmark of operations: its table and file; its numbers are for quiet machines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import kernels, operations, records
from benchmarks.operations import Case
from tests.test_cli import Capture


def test_differences_are_relative_to_the_largest_result() -> None:
    theirs = torch.tensor([4.0, -8.0])
    assert kernels._difference(torch.tensor([4.0, -7.0]), theirs) == 0.125
    assert kernels._difference([theirs, theirs.numpy()], [theirs, theirs]) == 0.0
    assert kernels._difference(np.zeros(0), np.zeros(0)) == 0.0
    assert kernels._difference([{"counts": "a"}], [{"counts": "a"}]) == 0.0
    assert kernels._difference([{"counts": "a"}], [{"counts": "b"}]) == float("inf")


def test_a_ratio_is_that_of_neighbours_in_one_round() -> None:
    seconds = {"exact": [0.2, 0.4, 0.2], "plain": [0.1, 0.1, 0.2]}
    results = {"exact": torch.ones(1), "plain": torch.ones(1)}
    timing = kernels._timing("case", "plain", 1, seconds, results)
    assert (timing.ratio, timing.low, timing.milliseconds, timing.difference) == (2.0, 1.0, 100.0, 0.0)


def test_contenders_take_turns_and_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    acts: list[str] = []
    ours = {name: lambda name=name: lambda: acts.append(name) or torch.ones(2) for name in ("exact", "plain")}
    monkeypatch.setattr(operations, "CASES", {"one": lambda: Case("one 2", ours)})
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    threads = torch.get_num_threads()
    assert kernels.main(["one", "--rounds", "2", "--threads", str(threads), "--record"]) == 0
    assert acts == ["exact", "plain", "plain", "exact", "exact", "plain"]
    assert "one 2" in capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["contender"] for row in csv.DictReader(file)] == ["exact", "plain"]


def test_an_unknown_operation_is_refused(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        kernels.main(["roi_alien"])
    assert "no operation matches 'roi_alien'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["roi_align_14", "split_attention", "resize", "run_lengths"])
def test_what_is_timed_agrees(name: str) -> None:
    runs = dict(kernels._contenders(operations.CASES[name]()))
    exact = runs["exact"]()
    for contender, run in runs.items():
        if contender not in ("onnxruntime", "openvino"):
            assert kernels._difference(run(), exact) < 1e-5, contender
