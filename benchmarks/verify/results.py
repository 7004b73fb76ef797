"""`benchmarks/results/*.csv`: what was measured, one file for each level and its conditions.

The file name carries level, device, dtype and the version of torch; a row carries the rest. A new measurement
of a model replaces its rows in the file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks import golden
from benchmarks.verify.outcome import Finding, ModelOutcome, Status
from resnest_zoo.hub.staging import staged

FOLDER = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name: of the model.
        status: "pass" or "fail", of this number.
        metric: what was measured; at the level `golden` the largest difference of a kind of output, or
            "comparison" where outputs could not be compared.
        on: data set, split and augmentation; "golden" for stored outputs.
        reported: the claim, percent; empty for differences.
        measured: the number; percent, or a difference in the unit of `benchmarks.golden.TOLERANCES`; empty
            where there was nothing to measure.
        tolerance: the largest difference that passes.
        date: of the run, UTC.
        versions: of what computed it.
    """

    name: str
    status: str
    metric: str
    on: str
    reported: str
    measured: str
    tolerance: str
    date: str
    versions: str


def record(
    outcomes: Iterable[ModelOutcome],
    device: str,
    dtypes: dict[str, str],
    versions: dict[str, str],
    *,
    optimized: bool = False,
) -> None:
    """Keep the measurements of the levels `golden` and `coco` that came to a verdict.

    Args:
        outcomes: what was found.
        device: what it ran on.
        dtypes: by level.
        versions: by package.
        optimized: of optimised copies: they are kept in files of their own, and are no proof of the models.
    """
    today = datetime.now(UTC).date().isoformat()
    others = " ".join(f"{name} {number}" for name, number in versions.items() if name != "torch")
    for level, dtype in dtypes.items():
        rows = [
            row
            for outcome in outcomes
            if (finding := outcome.findings.get(level)) is not None
            for row in _rows(outcome.name, level, finding, dtype, (today, others))
        ]
        stem = f"{level}-{device_slug(device)}-{dtype}-torch{versions['torch'].partition('+')[0]}"
        if rows:
            _replace(FOLDER / f"{'optimized-' if optimized else ''}{stem}.csv", rows)


def device_slug(device: str) -> str:
    """The device as file names carry it: "cpu", or the name of the GPU."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _rows(name: str, level: str, finding: Finding, dtype: str, when: tuple[str, str]) -> Iterator[Row]:
    if level == "coco":
        for c in finding.comparisons:
            if c.status in (Status.PASS, Status.FAIL):
                measured = "" if c.measured is None else f"{c.measured:.4f}"
                numbers = (f"{c.reported:.2f}", measured, f"{c.tolerance:.2f}")
                yield Row(name, str(c.status), c.metric, c.conditions, *numbers, *when)
        return
    largest: dict[str, float] = {}
    for differences in finding.figures.values():
        for kind, value in differences.items():
            largest[kind] = max(value, largest.get(kind, 0.0))
    limits = golden.TOLERANCES[dtype]
    statuses = {kind: "pass" if value <= limits[kind] else "fail" for kind, value in largest.items()}
    if finding.status is Status.FAIL and "fail" not in statuses.values():
        # Such as a wrong shape, which has no difference.
        yield Row(name, "fail", "comparison", "golden", "", "", "", *when)
    for kind, value in largest.items():
        status = statuses[kind]
        yield Row(name, status, kind, "golden", "", f"{value:.1e}", f"{limits[kind]:g}", *when)


def _replace(path: Path, rows: list[Row]) -> None:
    new = {row.name for row in rows}
    kept = [row for row in read_rows(path) if row.name not in new] if path.exists() else []
    path.parent.mkdir(exist_ok=True)
    with staged(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted([*kept, *rows], key=lambda row: row.name))


def read_rows(path: Path) -> list[Row]:
    """The rows of one file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def read_results(level: str) -> dict[str, list[Row]]:
    """All recorded rows of a level, by the conditions in the file's name."""
    return {path.stem: read_rows(path) for path in sorted(FOLDER.glob(f"{level}-*.csv"))}
