"""Operations and whole bottom-up networks: ours, PyTorch's own, onnxruntime's and OpenVINO's, in turns.

    python -m benchmarks.kernels                        # all, one thread
    python -m benchmarks.kernels roi_align --threads 1 2 --record

`exact` are PyTorch's and torchvision's own operators (for the resize Pillow, for run lengths numpy), and what
the others are compared with: `x` is how many times as fast, the median over neighbours of one round, and
`difference` the largest difference of results by the largest result of `exact`. `plain`, `onednn` and
`kernels` are implementations of `resnest_zoo.ops.choice`; `optimized` is a whole network after
`resnest_zoo.optimize`. With one thread seconds are CPU time, else the clock's. What is not installed is left
out with a word.

Legend: N images, C channels, H and W, G groups, D deformable groups, R regions, S pooled side.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from benchmarks import operations, records
from benchmarks.operations import Case
from benchmarks.verify.outcome import aligned
from resnest_zoo.errors import ZooError

_PACKAGES = ("torch", "torchvision", "resnest-zoo-kernels", "onnxruntime", "openvino", "pillow", "numpy")


@dataclass(frozen=True)
class Timing:
    """What one contender did with one operation.

    Attributes:
        case: the operation and its shapes.
        contender: who.
        threads: of the CPU.
        ratio: how many times as fast as `exact`, median of the rounds.
        low: the worst tenth.
        milliseconds: median.
        spread: of the milliseconds, from the lower to the upper quartile.
        difference: largest, relative to the largest result.
        versions: of what computed it.
        date: UTC.
    """

    case: str
    contender: str
    threads: int
    ratio: float
    low: float
    milliseconds: float
    spread: float
    difference: float
    versions: str
    date: str


def measure(case: Case, threads: int, rounds: int) -> list[Timing]:
    """Time all contenders of an operation in turns; the first round warms up."""
    runs = dict(_contenders(case))
    clock = time.process_time if threads == 1 else time.perf_counter
    results, seconds = {}, {name: list[float]() for name in runs}
    for turn in range(rounds + 1):
        for name in sorted(runs, reverse=turn % 2 == 1):
            start = clock()
            results[name] = runs[name]()
            if turn:
                seconds[name].append(clock() - start)
    return [_timing(case.name, name, threads, seconds, results) for name in runs]


def _contenders(case: Case) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, build in case.ours.items():
        try:
            with torch.no_grad():
                yield name, partial(_without_gradients, build())
        except ZooError as error:
            print(f"{case.name}: {name} left out: {error}", file=sys.stderr)
    for name in case.runtimes if case.module is not None else ():
        if find_spec(name) is None:
            continue
        try:
            yield name, getattr(operations, f"build_{name}")(case)
        except Exception as error:  # theirs raise anything; the reason is shown
            reason = (str(error).strip().splitlines() or [""])[0]
            print(f"{case.name}: {name} left out: {type(error).__name__}: {reason[:200]}", file=sys.stderr)


def _without_gradients(run: Callable[[], Any]) -> Any:
    with torch.no_grad():
        return run()


def _timing(
    case: str, name: str, threads: int, seconds: dict[str, list[float]], results: dict[str, Any]
) -> Timing:
    own = sorted(1000 * s for s in seconds[name])
    ratios = sorted(theirs / ours for ours, theirs in zip(seconds[name], seconds["exact"], strict=True))
    quarter = len(own) // 4
    return Timing(
        case,
        name,
        threads,
        round(statistics.median(ratios), 2),
        round(ratios[len(ratios) // 10], 2),
        round(statistics.median(own), 3),
        round(own[-1 - quarter] - own[quarter], 3),
        float(f"{_difference(results[name], results['exact']):.1e}"),
        ", ".join(f"{package} {found}" for package in _PACKAGES if (found := _version(package))),
        datetime.now(UTC).date().isoformat(),
    )


def _difference(ours: Any, theirs: Any) -> float:
    """Relative to the largest of `theirs`; of texts and numbers 0 for equal ones, infinite for others."""
    if isinstance(theirs, list):
        return max((_difference(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)
    if not isinstance(theirs, torch.Tensor | np.ndarray):
        return 0.0 if ours == theirs else float("inf")
    a, b = (np.asarray(x, np.float64) for x in (ours, theirs))
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30))


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""


_HEADER = ("operation", "contender", "threads", "x", "p10", "ms", "spread", "difference")


def _cells(timing: Timing) -> list[str]:
    return [str(getattr(timing, f.name)) for f in fields(Timing)[: len(_HEADER)]]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="*", help="only these operations, such as 'roi_align*'")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of the CPU; default 1")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--record", action="store_true", help="write the file in benchmarks/results")
    args = parser.parse_args(argv)
    builders = {
        name: build
        for name, build in operations.CASES.items()
        if fnmatchcase(name, args.pattern) or name.startswith(args.pattern)
    }
    if not builders:
        parser.error(f"no operation matches {args.pattern!r}; there are {', '.join(operations.CASES)}")
    timings: list[Timing] = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name, build in builders.items():
            few = max(2, args.rounds // 2) if name in operations.LONG else args.rounds
            timings += measure(build(), threads, few)
            print(f"{name}, {threads} threads: done", file=sys.stderr, flush=True)
    print("\n".join(aligned(_HEADER, map(_cells, timings))))
    if args.record:
        records.record("kernels", timings, ("case", "contender", "threads"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
