"""Files of measured speed in `benchmarks/results`: one for each task, device, dtype and version of torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.verify.results import FOLDER, device_slug
from resnest_zoo.hub.staging import staged

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Rows = list[dict[str, str]]


def record(task: str, rows: Sequence[DataclassInstance], key: tuple[str, ...], device: str = "cpu") -> Path:
    """Put rows into the file of a task; they replace those of the same key."""
    path = path_of(task, device)
    kept = {tuple(row[k] for k in key): row for row in (_read(path) if path.exists() else [])}
    for row in rows:
        texts = {name: str(value) for name, value in asdict(row).items()}
        kept[tuple(texts[k] for k in key)] = texts
    _write(path, list(kept.values()))
    return path


def path_of(task: str, device: str = "cpu") -> Path:
    """The file of a task, a device and the torch at hand."""
    return FOLDER / f"{task}-{device_slug(device)}-float32-torch{torch.__version__.partition('+')[0]}.csv"


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Make a file of rows, which all have the keys of the first, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    with staged(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(task: str) -> dict[str, Rows]:
    """The rows of a task's files, by the conditions in the file's name."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob(f"{task}-*.csv"))}


def _read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
