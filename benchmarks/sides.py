"""The sides of a comparison as processes of their own, which work when their parent tells them to.

A side says that it is ready, then reads a number of runs from each line of its input and answers with what
each has cost; the end of its input ends it. Answers are lines of JSON behind an "@".
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from resnest_zoo.errors import ZooError


class Side:
    """A side as its parent sees it; use as a context."""

    def __init__(self, module: str, words: Sequence[str]) -> None:
        self.name = words[0]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed on exit
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> Side:
        try:
            self.hear()
        except ZooError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.communicate()
        self.errors.close()

    def hear(self) -> dict[str, Any]:
        """The next answer; raises ZooError with the last line of an error."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return dict(json.loads(line[1:]))
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        raise ZooError(f"{self.name}: {lines[-1] if lines else 'ended without a word'}")

    def run(self, times: int) -> dict[str, Any]:
        """Have it work; returns `seconds`, a list, and `memory_mb`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        return self.hear()


class Stopwatch:
    """Tells a side when to run, and its parent what each run has cost.

    The clock is the process's CPU time on the CPU with one thread, which neighbours disturb least, else the
    wall's. Memory is the most that the process needed: on the CPU beyond what it held when the watch was
    made, on a GPU what PyTorch allocated.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.cuda = device.startswith("cuda")
        alone = not self.cuda and torch.get_num_threads() == 1
        self.clock = time.process_time if alone else time.perf_counter
        self.before = 0.0 if self.cuda else _resident_mb("VmRSS")

    def runs(self) -> Iterator[None]:
        """One item for each run; the loop's body is what is timed. Ends when the parent asks for no more."""
        _say({"ready": True})
        for line in sys.stdin:
            seconds = []
            for _ in range(int(line)):
                start = self._now()
                yield
                seconds.append(self._now() - start)
            _say({"seconds": seconds, "memory_mb": self._memory_mb()})

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return self.clock()

    def _memory_mb(self) -> float:
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        return _resident_mb("VmHWM") - self.before


def _say(message: dict[str, Any]) -> None:
    print(f"@{json.dumps(message)}", flush=True)


def _resident_mb(field: str) -> float:
    """What Linux knows of this process: VmRSS is held now, VmHWM was the most."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 2**10
