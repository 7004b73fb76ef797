"""Ranges of one operation's work in several threads: as many as PyTorch uses, the caller among them.

The kernels run without the interpreter's lock, so threads of Python can run them. Best are PyTorch's own, of
its OpenMP: they wait for its next operation by spinning for some milliseconds, and would take a processor
from any thread beside them. Where PyTorch has another OpenMP than GNU's, and in a process that was forked,
where its threads are lost, a pool does the same. A process that forks ends the pool's threads first and
starts new ones when it needs them, and so does its child.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Pieces for each thread: one that is slower than the others takes fewer of them.
_PIECES = 4
LARGEST = 2**22  # numbers that are kept for the next call, of a thread: 16 MiB
_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Pool:
    """Threads besides the caller's."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.executor: ThreadPoolExecutor | None = None
        self.size = 0
        self.in_child = False

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

    def after_fork_in_child(self) -> None:
        self.in_child = True
        self.after_fork()


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_POOL.before_fork, after_in_parent=_POOL.after_fork, after_in_child=_POOL.after_fork_in_child
    )


def share(work: int, least: int, task: Callable[[int, int], None], *, reading: bool = False) -> None:
    """Call `task(first, last)` for ranges that make up `range(work)`, in any order and at once.

    Args:
        work: how many items there are.
        least: items that are worth a range of their own.
        task: computes a range; what it raises is raised here.
        reading: the caller reads pictures, maybe while another thread runs a model: it leaves PyTorch's
            threads alone, of which each thread that asks gets some of its own.
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

    team = None if reading or _POOL.in_child else _openmp()
    if team is None:
        _run_in_pool(take, workers)
    else:
        _run_in_team(team, take)


def _run_in_pool(take: Callable[[], None], workers: int) -> None:
    others = _POOL.submit(take, workers - 1)
    try:
        take()
    finally:
        for other in others:
            other.result()


def _run_in_team(parallel: Any, take: Callable[[], None]) -> None:
    raised: list[BaseException] = []

    def body(_: int | None) -> None:
        try:
            take()
        except BaseException as error:  # no way leads through C: it is raised again below
            raised.append(error)

    # All of PyTorch's threads, also where fewer were enough: another number makes OpenMP start others.
    parallel(_BODY(body), None, torch.get_num_threads(), 0)
    if raised:
        raise raised[0]


@cache
def _openmp() -> Any:
    """`GOMP_parallel(body, data, threads, flags)` of the library that PyTorch itself has loaded, or None."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    package = Path(torch.__file__).parent
    beside = sorted([*package.glob("lib/libgomp*.so*"), *package.parent.glob("torch.libs/libgomp*.so*")])
    for name in (*map(str, beside), "libgomp.so.1"):
        try:
            parallel = ctypes.CDLL(name, mode=os.RTLD_NOW | os.RTLD_NOLOAD).GOMP_parallel
        except (OSError, AttributeError):  # not loaded, or another library under that name
            continue
        parallel.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None


class Workspace:
    """Memory that is used again, as many pieces as were lent at once; fresh memory is filled page by page."""

    def __init__(self, largest: int = LARGEST) -> None:
        self.largest = largest
        self.kept: deque[Tensor] = deque()

    @contextmanager
    def lend(self, numbers: int) -> Iterator[Tensor]:
        """(at least `numbers`,) float32 of any values, the caller's alone until the end of the block."""
        if numbers > self.largest:
            yield torch.empty(numbers)
            return
        piece = self.kept.pop() if self.kept else None
        if piece is None or len(piece) < numbers:
            with torch.inference_mode(False):  # also for who does not infer, later
                piece = torch.empty(numbers)
        try:
            yield piece
        finally:
            self.kept.append(piece)


WORKSPACE = Workspace()
