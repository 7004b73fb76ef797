"""Real processes that fetch the file of `samples`, and ways to hurt them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Says "ready" when everything is loaded, then waits for a line before it fetches.
_FETCH = """
import logging, os, signal, sys
import requests, tqdm
from resnest_zoo.errors import ZooError
from resnest_zoo.hub import Artifact, fetch
{setup}
url, name, known = sys.argv[1:]
artifact = Artifact(name, (url,), **({{"sha256_prefix": known}} if known else {{}}))
print("ready", flush=True)
sys.stdin.readline()
try:
    print(fetch(artifact, progress=False))
except ZooError as error:
    print(f"{{type(error).__name__}}: {{error}}")
    sys.exit(1)
"""


class Fetcher:
    """One process. It starts to fetch at `go`."""

    def __init__(self, url: str, known: str = "", setup: str = "", before: Sequence[str] = ()) -> None:
        name = url.rsplit("/", 1)[-1]
        code = _FETCH.format(setup=setup)
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", code, url, name, known],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def go(self) -> Fetcher:
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        first = self.process.stdout.readline()
        assert first == "ready\n", first + self.process.communicate(timeout=30)[1]
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit status and what it printed."""
        try:
            output, errors = self.process.communicate(timeout=60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.communicate()
        return self.process.returncode, output + errors


def without_privileges() -> list[str]:
    """What goes before a command to make file modes count, also for root."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    if shutil.which("setpriv") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("root without setpriv can write everywhere")
    return command


def on_small_disk(folder: Path, size: str) -> list[str]:
    """What goes before a command to make `folder` a disk of its own of that size, for this command alone."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t tmpfs -o size={size} tmpfs '{folder}' && exec \"$@\""
    command = ["unshare", "-m", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    return command
