"""Several processes give the report of one, and stop together.

The slow tests start processes with torchrun; the others let threads take their part.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import resnest_zoo
from benchmarks.verify import coco as module
from benchmarks.verify.coco import Settings, check_metrics
from benchmarks.verify.datasets import DataMissingError, DataSet, find_coco
from benchmarks.verify.outcome import Finding, Status
from benchmarks.verify.prediction import Detector, predict_all
from resnest_zoo.distributed import World
from resnest_zoo.registry import Entry, Reported, info
from tests.verify.driver import DriverSettings
from tests.verify.mini_coco import SIZES, MiniCoco
from tests.verify.runs import Verify, claim

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run_two(settings: Path, *argv: object) -> subprocess.CompletedProcess[str]:
    """The driver in two processes."""
    return subprocess.run(
        [*TORCHRUN, "-m", "tests.verify.driver", str(settings), *map(str, argv), "--workers", "0"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture
def settings(mirror: object, mini_coco: MiniCoco, tmp_path: Path) -> Path:
    claim("tiny_panoptic", Reported("COCO", "val2017", None, 1.5, 1.5, 1.5))
    entries = (info("tiny_panoptic"), info("tiny_detection"))
    return DriverSettings(entries, SIZES, mini_coco.counts).save(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2])
def test_two_processes_give_the_report_of_one_to_the_byte(
    batch_size: int, settings: Path, verify: Verify, coco: Path, tmp_path: Path
) -> None:
    """Plain and augmented, boxes, masks and segments; golden files and weights are looked at by one."""
    options = ("tiny_panoptic", "tiny_detection", "--coco", coco, "--batch-size", batch_size)
    one = verify(*options)
    both = tmp_path / "both.json"
    output = tmp_path / "two"
    process = run_two(settings, *options, "--json", both, "--output", output)
    assert both.exists(), process.stderr
    assert both.read_text() == one.text
    # Number 0 alone speaks, and its exit code is the run's.
    assert process.stdout.count("tiny_panoptic                    coco") == 1
    assert process.returncode != 0
    plain, augmented = sorted((output / "tiny_panoptic").iterdir(), key=lambda path: "tta" in path.name)
    for folder in (plain, augmented):
        written = [file.read_text().count("\n") for file in sorted(folder.glob("pictures.*.jsonl"))]
        assert len(written) == 2
        assert sum(written) == 8
        assert min(written) >= 3
    assert len(list((plain / "panoptic").iterdir())) == 8


@pytest.mark.slow
def test_a_damaged_picture_in_ones_share_stops_both_with_one_error(
    settings: Path, coco: Path, tmp_path: Path
) -> None:
    root, path = with_damaged_picture(coco, tmp_path)
    report = tmp_path / "report.json"
    options = ("--level", "coco", "--coco", root, "--json", report, "--output", tmp_path / "two")
    process = run_two(settings, "tiny_detection", *options)
    assert process.returncode != 0
    (model,) = json.loads(report.read_text())["models"]
    level = model["levels"]["coco"]
    assert level["status"] == "fail"
    assert level["summary"].startswith(f"{path}: cannot be read")
    assert process.stdout.count(str(path)) == 2  # as it happened, and in the report
    assert process.stderr.count("Traceback") == 1, process.stderr  # torchrun's own, of the exit code


def with_damaged_picture(coco: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the data set; batches stand by size, then id, and the second, process 1's, is damaged."""
    root = shutil.copytree(coco, tmp_path / "damaged")
    path = root / "val2017" / "000000001000.jpg"
    path.write_bytes(path.read_bytes()[:500])
    return root, path


# Threads in place of processes


class Exchange:
    """What the members of a `ThreadWorld` meet at; a member that does not come breaks it for all."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.slots: list[Any] = [None] * size


@dataclass(frozen=True)
class ThreadWorld(World):
    exchange: Any = None

    def _all(self, value: Any) -> list[Any]:
        self.exchange.slots[self.rank] = value
        self.exchange.barrier.wait()
        values = list(self.exchange.slots)
        self.exchange.barrier.wait()
        return values

    def broadcast(self, value: Any) -> Any:
        return self._all(("broadcast", value))[0][1]

    def gather(self, value: Any) -> list[Any]:
        values = self._all(("gather", value))
        assert {kind for kind, _ in values} == {"gather"}, "the processes lost each other"
        return [value for _, value in values] if self.is_main else []


def in_threads(work: Callable[[World], Any]) -> list[Any]:
    """What two members of a world come to."""
    exchange = Exchange(2)

    def member(rank: int) -> Any:
        try:
            return work(ThreadWorld(rank, 2, rank, exchange))
        except BaseException:
            exchange.barrier.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        return [future.result() for future in [pool.submit(member, rank) for rank in range(2)]]


def check_in_threads(name: str, settings: Settings, weights: Path) -> list[Finding]:
    """What `check_metrics` finds in each of two members, number 0 telling all as in the command."""
    return in_threads(
        lambda world: world.broadcast(
            check_metrics(info(name), weights, settings, world, lambda *_: None, lambda: None)
        )
    )


@pytest.fixture
def weights(tiny: Path) -> Path:
    return tiny / info("tiny_detection").artifact.filename


def test_two_members_find_what_one_finds(weights: Path, coco: Path, tmp_path: Path) -> None:
    one = Settings(coco, tmp_path / "one", workers=0, batch_size=2)
    alone = check_metrics(info("tiny_detection"), weights, one, World(), lambda *_: None, lambda: None)
    first, second = check_in_threads("tiny_detection", replace(one, output=tmp_path / "two"), weights)
    assert first == second == alone
    assert alone.figures["plain"]["box"]["images"] == 8
    (folder,) = (tmp_path / "two" / "tiny_detection").iterdir()
    written = [file.read_text().count("\n") for file in sorted(folder.glob("pictures.*.jsonl"))]
    assert len(written) == 2
    assert sum(written) == 8


def test_more_or_fewer_members_go_on_where_others_stopped(weights: Path, coco: Path, tmp_path: Path) -> None:
    settings = Settings(coco, tmp_path / "two", workers=0, resume=True)
    whole, _ = check_in_threads("tiny_detection", settings, weights)
    (folder,) = (tmp_path / "two" / "tiny_detection").iterdir()
    for file in sorted(folder.glob("pictures.*.jsonl")):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:2]) + lines[2][:30])
    alone = check_metrics(info("tiny_detection"), weights, settings, World(), lambda *_: None, lambda: None)
    assert alone == whole
    assert (folder / "pictures.1.jsonl").read_text().count("\n") == 2  # it is not its own
    # The half line that another process left is none of two's business either.
    assert check_in_threads("tiny_detection", settings, weights)[0] == whole


def test_machines_with_disks_of_their_own_share_the_work(weights: Path, coco: Path, tmp_path: Path) -> None:
    data = find_coco(coco, panoptic=False)
    models = [resnest_zoo.get("tiny_detection", weights=weights, overrides=SIZES) for _ in range(2)]
    folders = [tmp_path / "first", tmp_path / "second"]

    def predict(world: World) -> dict[int, str]:
        folder = folders[world.rank]
        folder.mkdir(exist_ok=True)
        detector = Detector(models[world.rank], data, False, folder)
        options: dict[str, Any] = {"batch_size": 1, "workers": 0, "advance": lambda count: None}
        return predict_all(detector, data.pictures, folder, world, **options)

    def kept() -> list[list[str]]:
        files = (folder / f"pictures.{rank}.jsonl" for rank, folder in enumerate(folders))
        return [file.read_text().splitlines(keepends=True) for file in files]

    whole, nothing = in_threads(predict)
    assert list(whole) == [picture.id for picture in data.pictures]
    assert nothing == {}
    first, second = kept()
    assert (len(first), len(second)) == (4, 4)
    (folders[0] / "pictures.0.jsonl").write_text(first[0])
    (folders[1] / "pictures.1.jsonl").write_text("".join(second[:3]))
    again, _ = in_threads(predict)
    assert again == whole
    # What one has is not computed by the other.
    assert sorted(line for lines in kept() for line in lines) == sorted([*first, *second])


@pytest.mark.parametrize("unlucky", [0, 1])
def test_what_goes_wrong_in_one_member_stops_both(
    unlucky: int, weights: Path, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a GPU that only one of them lacks: else one would wait for what the other never says."""
    device = World.device
    lacking = ("cpu", "cpu:no")[:: 1 if unlucky else -1]
    monkeypatch.setattr(World, "device", lambda world, name: lacking[world.rank] or device(world, name))
    settings = Settings(coco, tmp_path / "two", workers=0)
    findings = check_in_threads("tiny_detection", settings, weights)
    assert findings[0] == findings[1]
    assert findings[0].status is Status.FAIL
    assert "device 'cpu:no' cannot be used here" in findings[0].summary


def test_a_damaged_picture_of_one_member_stops_both(weights: Path, coco: Path, tmp_path: Path) -> None:
    root, path = with_damaged_picture(coco, tmp_path)
    settings = Settings(root, tmp_path / "two", workers=0)
    first, second = check_in_threads("tiny_detection", settings, weights)
    assert first == second
    assert first.status is Status.FAIL
    assert first.summary.startswith(f"{path}: cannot be read")


def test_data_that_one_member_lacks_stop_both(
    weights: Path, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines have disks of their own."""

    def find(entry: Entry, settings: Settings) -> DataSet:
        if threading.current_thread().name.endswith("_1"):
            raise DataMissingError("no data on this machine")
        return found(entry, settings)

    found = module._find_data
    monkeypatch.setattr(module, "_find_data", find)
    first, second = check_in_threads("tiny_detection", Settings(coco, tmp_path / "two", workers=0), weights)
    assert first == second == Finding(Status.NO_DATA, "no data on this machine")
