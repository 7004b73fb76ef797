"""Whole detectors beside their peers, in turns within one run: `python -m benchmarks.speed --peers …`.

Contenders are `exact` (what `get` gives), `optimized` (`resnest_zoo.optimize`), and, as far as they are
installed, `detectron2`, `onnxruntime` (the exported tensor core) and `torchvision` (its own Mask R-CNN, of as
much work). Each works in a process of its own (`peer_side`). A ratio is how many times as fast as the first
peer asked for, between neighbours of one round; memory is the most that a process needed beyond its imports;
differences are between the detections that both found.

Legend: N detections.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.sides import Side
from benchmarks.verify.outcome import aligned
from resnest_zoo.errors import ConfigError, ZooError

MODELS = ("mask_rcnn_resnet50", "mask_rcnn_resnest50")
PEERS = ("detectron2", "torchvision", "onnxruntime")
_OURS = ("exact", "optimized")
_NEAR = 2.0  # pixels; detections whose boxes are farther apart are not the same

Found = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Contender:
    """What one contender did with one model.

    Attributes:
        model: of the zoo.
        contender: who.
        detections: asked for.
        threads: of the CPU; with one, seconds are CPU time, else the clock's.
        ratio: how many times as fast as `against`, median of the rounds.
        low: the worst tenth of the ratios.
        seconds: median.
        memory_mb: most.
        memory_ratio: to that of `against`.
        matched: detections that `against` found too, of all; "" where they cannot be compared.
        box_pixels: largest difference of their corners.
        score: largest difference of their scores.
        against: the first peer.
        kernels: version of resnest-zoo-kernels; "" without it.
        versions: of what computed it.
        date: UTC.
    """

    model: str
    contender: str
    detections: int
    threads: int
    ratio: float
    low: float
    seconds: float
    memory_mb: int
    memory_ratio: float
    matched: str
    box_pixels: str
    score: str
    against: str
    kernels: str
    versions: str
    date: str


def measure(
    models: Iterable[str], peers: Sequence[str], detections: int, threads: int, rounds: int
) -> list[Contender]:
    """Run all contenders of each model in turns; the first round warms up."""
    absent = [peer for peer in peers if find_spec(peer) is None]
    if absent:
        print(f"not installed, left out: {', '.join(absent)}", file=sys.stderr)
    against, *others = [peer for peer in peers if peer not in absent] or ["exact"]
    found = []
    for model in models:
        names = list(dict.fromkeys((against, *_OURS, *others)))
        found += _race(model, names, detections, threads, rounds)
        for row in found[-len(names) :]:
            print("  ".join(_cells(row)), flush=True)
    return found


def _race(model: str, names: list[str], detections: int, threads: int, rounds: int) -> list[Contender]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Threads of OpenMP count from the start of a process.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        sides: dict[str, Side] = {}
        for name in names:
            words = [name, model, "--detections", str(detections), "--threads", str(threads)]
            words += ["--answer", str(folder / f"{name}.npz")]
            try:
                sides[name] = stack.enter_context(Side("benchmarks.peer_side", words))
            except ZooError as error:
                if name == names[0]:
                    raise
                print(f"left out: {error}", file=sys.stderr)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        memory: dict[str, float] = {}
        for turn in range(rounds + 1):
            for name in sorted(sides, reverse=turn % 2 == 1):
                answer = sides[name].run(1)
                memory[name] = answer["memory_mb"]
                if turn:
                    seconds[name] += answer["seconds"]
        for side in sides.values():
            side.process.communicate()  # what was found is written at the end
        answers = {name: _read(folder / f"{name}.npz") for name in sides}
    return [_row(model, name, names[0], seconds, memory, answers, (detections, threads)) for name in sides]


def _read(path: Path) -> Found | None:
    if not path.exists():
        return None
    with np.load(path) as file:
        return dict(file)


def _row(
    model: str,
    name: str,
    against: str,
    seconds: dict[str, list[float]],
    memory: dict[str, float],
    answers: dict[str, Found | None],
    conditions: tuple[int, int],
) -> Contender:
    ratios = sorted(theirs / ours for ours, theirs in zip(seconds[name], seconds[against], strict=True))
    ours, theirs = answers[name], answers[against]
    same = ("", "", "") if ours is None or theirs is None else _difference(ours, theirs)
    return Contender(
        model,
        name,
        *conditions,
        round(statistics.median(ratios), 3),
        round(ratios[len(ratios) // 10], 3),
        round(statistics.median(seconds[name]), 3),
        round(memory[name]),
        round(memory[name] / memory[against], 3),
        *same,
        against,
        _version("resnest-zoo-kernels"),
        ", ".join(f"{package} {_version(package)}" for package in ("torch", "torchvision")),
        datetime.now(UTC).date().isoformat(),
    )


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""


def _difference(ours: Found, theirs: Found) -> tuple[str, str, str]:
    """How many of ours are theirs too, one to one, and how far apart: in pixels and in score."""
    free = np.ones(len(theirs["boxes"]), bool)
    boxes, scores = [0.0], [0.0]
    matched = 0
    for box, score, kind in zip(ours["boxes"], ours["scores"], ours["classes"], strict=True):
        apart = np.abs(theirs["boxes"] - box).max(axis=1, initial=0.0)
        apart[~free | (theirs["classes"] != kind)] = np.inf
        if len(apart) == 0 or apart.min() > _NEAR:
            continue
        at = int(apart.argmin())
        free[at] = False
        matched += 1
        boxes.append(float(apart[at]))
        scores.append(abs(float(theirs["scores"][at]) - float(score)))
    return f"{matched} of {max(len(ours['boxes']), len(free))}", f"{max(boxes):.1e}", f"{max(scores):.1e}"


_HEADER = ("model", "contender", "detections", "threads", "x", "p10", "seconds", "MB", "MB x")
_HEADER += ("matched", "px", "score")


def _cells(row: Contender) -> list[str]:
    return [str(getattr(row, field.name)) for field in fields(Contender)[: len(_HEADER)]]


def show(rows: Sequence[Contender]) -> str:
    """The table for a terminal."""
    title = f"x: times as fast as {rows[0].against}" if rows else ""
    return "\n".join([*aligned(_HEADER, [_cells(row) for row in rows]), title])


def record(rows: Sequence[Contender]) -> Path:
    """Put the rows in the file of their torch; they replace those of the same conditions."""
    return records.record("peers", rows, ("model", "contender", "detections", "threads", "kernels"))


def check_peers(text: str) -> list[str]:
    """Names between commas.

    Raises:
        ConfigError: one is no peer.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PEERS]:
        raise ConfigError(f"--peers: unknown {', '.join(unknown)}; expected some of {', '.join(PEERS)}")
    return names
