"""The benchmark of the hub runs; its numbers are for quiet machines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("sha256sum") is None, reason="needs both")
def test_every_row_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.hub", "--size", "8", "--rounds", "2", "--json"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=120
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(rows) == ["download", "verification", "warm fetch", "list"]
    assert all(min(row["ours"]) > 0 for row in rows.values())
