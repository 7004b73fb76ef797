"""Runs of `verify` in tests: what one left, and models whose claims a test decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from resnest_zoo.registry import Reported, info, register

# Python 3.12 warns of workers that are forked while the test's file server has a thread.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@dataclass(frozen=True)
class Report:
    """What one run left."""

    code: int
    out: str
    document: dict[str, Any]
    text: str

    def level(self, name: str, level: str = "coco") -> dict[str, Any]:
        (model,) = (model for model in self.document["models"] if model["name"] == name)
        return model["levels"][level]

    def measured(self, name: str) -> dict[str, float | None]:
        """By metric and conditions."""
        rows = self.level(name)["comparisons"]
        return {f"{row['metric']}, {row['conditions']}": row["measured"] for row in rows}


Verify = Callable[..., Report]


def claim(name: str, *rows: Reported) -> None:
    """Let a registered model report these numbers."""
    register(replace(info(name), reported=rows), replace=True)


def results(folder: Path, name: str) -> Path:
    """The only folder of results of a model."""
    (found,) = (folder / "results" / name).iterdir()
    return found


def claimed_as_measured(verify: Verify, coco: Path, name: str) -> Report:
    """Measure a model and let it report what was found, rounded as pages do."""
    reported = info(name).reported[0]
    claim(name, replace(reported, mask=1.5 if "mask" in name else None))
    report = verify(name, "--level", "coco", "--coco", coco)
    numbers = {k.partition(" AP")[0]: v for k, v in report.measured(name).items() if v is not None}
    claim(name, replace(reported, **{kind: round(value, 2) for kind, value in numbers.items()}))
    return report
