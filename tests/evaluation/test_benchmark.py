"""The benchmark of evaluation runs, so both sides of every row agree; its numbers are for quiet machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_row_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.evaluation", "--rounds", "1", "--images", "20", "--json"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=120
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(rows) == [
        *("bbox AP 20 images", "segm AP 20 images"),
        *("masks 480x640", "masks 1080x1920", "panoptic 500 pictures"),
    ]
    assert all(min(row["ours"]) > 0 for row in rows.values())
