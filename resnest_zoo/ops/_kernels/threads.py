"""Ranges of one operation's work in several threads: as many as PyTorch uses, the caller among them.

The kernels run without the interpreter's lock, so threads of Python do, and PyTorch's own are left alone.
They wait between calls and end with the process. A process that forks ends them first and starts new ones
when it needs them, and so does its child.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import torch
from torch import Tensor

# Pieces for each thread: one that is slower than the others takes fewer of them.
_PIECES = 4
_LARGEST = 2**22  # numbers that a thread keeps for the next call: 16 MiB


class _Pool:
    """Threads besides the caller's."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.executor: ThreadPoolExecutor | None = None
        self.size = 0

    def submit(self, task: Callable[[], None], times: int) -> list[Future[None]]:
        with self.lock:
            if self.executor is None or self.size < times:
                self.stop()
                self.executor, self.size = ThreadPoolExecutor(times, "resnest-zoo-kernels"), times
            return [self.executor.submit(task) for _ in range(times)]

    def stop(self) -> None:
        with self.lock:
            if self.executor is not None:
                self.executor.shutdown(wait=True)
            self.executor, self.size = None, 0

    def before_fork(self) -> None:
        self.lock.acquire()
        self.stop()

    def after_fork(self) -> None:
        self.lock.release()


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_POOL.before_fork, after_in_parent=_POOL.after_fork, after_in_child=_POOL.after_fork
    )


def share(work: int, least: int, task: Callable[[int, int], None]) -> None:
    """Call `task(first, last)` for ranges that make up `range(work)`, in any order and at once.

    Args:
        work: how many items there are.
        least: items that are worth a range of their own.
        task: computes a range; what it raises is raised here.
    """
    workers = min(torch.get_num_threads(), -(-work // least))
    if workers <= 1:
        if work:
            task(0, work)
        return
    step = max(least, -(-work // (workers * _PIECES)))
    starts = count(0, step)  # one number for each `next`, whichever thread asks

    def take() -> None:
        while (first := next(starts)) < work:
            task(first, min(first + step, work))

    others = _POOL.submit(take, workers - 1)
    try:
        take()
    finally:
        for other in others:
            other.result()


class Workspace(threading.local):
    """Memory of one thread that is used again, since fresh memory is filled page by page."""

    def __init__(self) -> None:
        self.kept: Tensor | None = None

    def take(self, numbers: int) -> Tensor:
        """(numbers,) float32 of any values; they are lost when the thread takes the next."""
        if self.kept is None or len(self.kept) < numbers:
            fresh = torch.empty(numbers)
            if numbers > _LARGEST:
                return fresh
            self.kept = fresh
        return self.kept


WORKSPACE = Workspace()
