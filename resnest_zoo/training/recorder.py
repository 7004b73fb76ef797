"""What a run tells its user: metrics.jsonl, TensorBoard, and a bar or lines of text.

Each line of metrics.jsonl is an object with `iteration`, the number of iterations done. Lines of training
hold `loss`, its parts by detectron2's names, `seconds` and `data_seconds` of an iteration, all means since
the last line, `lr`, and `memory_mb`, the highest so far. Lines of evaluation hold metrics in percent.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from resnest_zoo.errors import name_file, shown

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"


class Recorder:
    """Records of one process; use as a context."""

    def __init__(self, folder: Path, first: int, last: int, period: int) -> None:
        """Go on with the records of `folder`.

        Args:
            folder: of the run.
            first: iterations done before; later records, of a run that was killed, are removed.
            last: iterations in all.
            period: iterations between two records.
        """
        self.last = last
        self.period = period
        self._file = folder / METRICS
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._count = 0
        self._forget_after(first)
        self._board = _open_board(folder, first)
        self._bar = tqdm(total=last, initial=first, desc="train", unit="it", disable=None)
        # Lines of text go above the bar, where there is one.
        redirect = nullcontext if self._bar.disable else logging_redirect_tqdm
        self._redirect: AbstractContextManager[None] = redirect()

    def __enter__(self) -> Recorder:
        self._redirect.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._redirect.__exit__(*exception)
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def step(self, iteration: int, lr: float, values: Mapping[str, float]) -> None:
        """Take learning rate, losses and times of one iteration; `iteration` counts those done."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] += value
        self._bar.update()
        if iteration % self.period and iteration != self.last:
            return
        row = {name: total / self._count for name, total in self._sums.items()}
        row |= {"lr": lr, "memory_mb": _memory_mb()}
        self.write(iteration, row)
        text = _in_words(iteration, self.last, row)
        if self._bar.disable:
            logger.info("%s", text)
        else:
            self._bar.set_postfix(loss=f"{row['loss']:.3f}", lr=f"{row['lr']:.2g}")
        self._sums.clear()
        self._count = 0

    def evaluation(self, iteration: int, metrics: Mapping[str, float | None]) -> None:
        """Take the metrics of an evaluation."""
        self.write(iteration, metrics)
        shown = {name: value for name, value in metrics.items() if "/AP-" not in name}  # not of each class
        values = ((name, "none" if v is None else f"{v:.2f}") for name, v in shown.items())
        logger.info("iteration %d/%d  %s", iteration, self.last, "  ".join(map(" ".join, values)))

    def write(self, iteration: int, row: Mapping[str, float | None]) -> None:
        """Write a line, and the same to TensorBoard."""
        with name_file(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **row}) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if value is not None:
                    self._board.add_scalar(name, value, iteration)

    def _forget_after(self, first: int) -> None:
        if self._file.exists():
            rows = [row for row in read_metrics(self._file) if row["iteration"] <= first]
            lines = "".join(json.dumps(row) + "\n" for row in rows if first)
            with name_file(self._file):
                self._file.write_text(lines, encoding="utf-8")


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, each of an iteration, with numbers or None by name.

    Lines that are none do not count, such as one that a kill has cut off.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if _is_row(row):
            rows.append(row)
        else:
            logger.warning("%s: line %d is damaged and left out: %s", file, number, shown(line))
    return rows


def _is_row(row: object) -> bool:
    """Whether this is a row of `Recorder.write`."""
    if not isinstance(row, dict) or type(row.get("iteration")) is not int:
        return False
    return all(
        value is None or type(value) is float or (type(value) is int and abs(value) < 2**63)
        for value in row.values()
    )


def _open_board(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard files: tensorboard is not installed: pip install 'resnest-zoo[train]'")
        return None
    return SummaryWriter(str(folder), purge_step=first + 1 if first else None)


def _memory_mb() -> float:
    """The most that was in use so far: of the GPU's memory, else of the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows keeps no such count
        return 0.0
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _in_words(iteration: int, last: int, row: Mapping[str, float]) -> str:
    parts = ", ".join(
        f"{name.removeprefix('loss_')} {value:.4f}" for name, value in row.items() if name.startswith("loss_")
    )
    left = timedelta(seconds=round((last - iteration) * row["seconds"]))
    return (
        f"iteration {iteration}/{last}  loss {row['loss']:.4f} ({parts})  lr {row['lr']:.3g}  "
        f"{row['seconds']:.3f} s/it, of it data {row['data_seconds']:.3f}  "
        f"eta {left}  memory {row['memory_mb']:.0f} MB"
    )
