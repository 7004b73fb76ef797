"""Jobs in processes of their own that are killed on purpose: for tests and `benchmarks.ray_data`.

Only processes that a job has started are ended, by their ids.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE = 240  # seconds; on a quiet machine it takes a tenth


def children(root: int) -> dict[int, str]:
    """All processes below one, with what they are called."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    for _ in range(20):
        found |= {pid for pid, parent in parents.items() if parent in found}
    return {pid: names[pid] for pid in found - {root} if pid in names}


class Job:
    """A driver in a process of its own, and what it has started."""

    def __init__(self, words: list[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.ray_job", *words], cwd=ROOT, stderr=file
            )
        self.seen: dict[int, str] = {}

    def workers(self) -> list[int]:
        self.seen |= children(self.process.pid)
        return [
            pid for pid, name in self.seen.items() if "MapWorker" in name and Path(f"/proc/{pid}").exists()
        ]

    def stop(self) -> None:
        """End the driver, and what has outlived it."""
        if self.process.poll() is None:
            self.seen |= children(self.process.pid)
            self.process.kill()
        self.process.wait()
        for pid, name in self.seen.items():
            try:
                if (
                    Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() == name
                    or "ray" in name
                ):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


@contextmanager
def started(words: list[str], log: Path) -> Iterator[Job]:
    job = Job(words, log)
    try:
        yield job
    finally:
        job.stop()


def wait_for(what: Callable[[], Any], job: Job, look: Callable[[], None]) -> Any:
    """What becomes true while the job runs; `look` is called all the time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        look()
        job.seen |= children(job.process.pid)
        if found := what():
            return found
        assert job.process.poll() is None, job.log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s:\n{job.log.read_text()}")


class Watched:
    """A folder of results, of which every file that is seen has to be whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: dict[str, list[str]] = {}

    def look(self) -> None:
        import pyarrow.parquet

        for path in self.folder.glob("*.parquet"):
            if path.name not in self.read:
                self.read[path.name] = pyarrow.parquet.read_table(path, columns=["id"])["id"].to_pylist()


def run_killed(words: list[str], output: Path, log: Path) -> dict[str, list[str]]:
    """Run a job of `tests.ray_job` whose worker, and then whose driver, is killed, and resume it to its end.

    Every part is read as soon as it is seen, and has to be whole.

    Returns:
        The ids in each part, as they were first seen.
    """
    watched = Watched(output)
    with started(words, log) as job:
        wait_for(lambda: len(watched.read) >= 1, job, watched.look)
        victim = wait_for(job.workers, job, watched.look)[0]
        os.kill(victim, signal.SIGKILL)
        before = len(watched.read)
        wait_for(lambda: len(watched.read) >= before + 2, job, watched.look)
        job.process.kill()
        job.process.wait()
        done = sum(map(len, watched.read.values()))
        assert done > 0
        with started(words, log) as second:  # while what the first has started may still be there
            wait_for(lambda: second.process.poll() == 0, second, watched.look)
    watched.look()
    return watched.read
