"""Worker processes that read ahead, and what to do where the system gives them too little.

There are never more of them than processors. What they make comes through shared memory as long as that has
room, else through pipes. An error of theirs is raised here as if there were no workers, and one that the
system ended is named.
"""

from __future__ import annotations

import functools
import io
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from resnest_zoo.errors import WorkerError, ZooError

logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Made = TypeVar("Made")

_SHARED = Path("/dev/shm")  # noqa: S108 (not for files of ours: its room is measured)
_LAST_WORDS = 1.0  # seconds that the end of a worker may take
_SHARE = 8  # one parcel takes at most this part of the free room, as there are others and other programs


def count_workers(wanted: int) -> int:
    """At most `wanted`, but no more than this process's part of the processors that it may use.

    Processes that `torchrun` started on this machine have equal parts. What workers make is the same for any
    number.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(wanted, max(1, allowed // beside))


def read_ahead(
    make: Callable[[Key], Made], keys: Iterable[Key], workers: int, *, seed: int = 0, pin: bool = False
) -> Iterator[Made]:
    """What `make` makes of each key, in their order.

    Args:
        make: runs in worker processes; picklable where these are not forked.
        keys: may be endless.
        workers: wanted; see `count_workers`. 0 makes everything here, as does a system without semaphores.
        seed: of the workers' own generators.
        pin: copy tensors to pinned memory where there are workers; for CUDA.

    Raises:
        WorkerError: a worker was ended by the system, or ended itself.
        ZooError: whatever `make` raised.
    """
    workers = count_workers(workers)
    if workers == 0 or not _has_semaphores():
        yield from map(make, keys)
        return
    loader: DataLoader[Any] = DataLoader(
        _Maker(make),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        worker_init_fn=outlive_signals,
        pin_memory=pin,
        # Else the loader would draw from the global generator each time that it starts.
        generator=torch.Generator().manual_seed(seed),
    )
    try:
        yield from _parcels(loader)
    except _NoRoomError as error:
        logger.warning("no worker processes, pictures are read in between: %s", error)
        yield from map(make, keys)


class _NoRoomError(Exception):
    """Workers cannot be started: where they are not forked, what they work on comes through shared memory."""


def _parcels(loader: DataLoader[Any]) -> Iterator[Any]:
    before = set(multiprocessing.active_children())
    try:
        parcels: Iterator[_Parcel] | None = iter(loader)
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        raise _NoRoomError(str(error)) from error
    workers = [child for child in multiprocessing.active_children() if child not in before]
    _defer_deaths()
    try:
        while parcels is not None:
            _refuse_dead(workers)
            failure = None
            try:
                with _waiting:
                    parcel = next(parcels)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:  # the last two: it died as it handed over
                failure = error
            if failure is not None:
                _await_death(workers)
                _refuse_dead(workers)
                raise failure
            yield _unpack(parcel)
    finally:
        # Ends the workers at once. Errors keep what their frames knew, which processes forked later would
        # inherit and try to end.
        parcels = failure = None


class _Parcel(NamedTuple):
    """What a worker sends: one of the three. A tuple, since PyTorch pins the tensors of those."""

    made: Any = None
    packed: bytes | None = None
    problem: ZooError | None = None


class _Maker(TorchDataset[_Parcel], Generic[Key, Made]):
    """Makes parcels; a problem is one, too, since PyTorch would bury it in its traceback."""

    def __init__(self, make: Callable[[Key], Made]) -> None:
        self.make = make

    def __getitem__(self, key: Key) -> _Parcel:
        try:
            return _pack(self.make(key))
        except ZooError as error:
            return _Parcel(problem=error)


# Shared memory. PyTorch reserves it as it moves a tensor there, and raises where there is no room; but after
# a worker has handed a result over, that happens in a thread of its queue: the result is lost, and the main
# process waits for it without end. So tensors are moved before. PyTorch's other way of sharing,
# "file_system", has names for its files and keeps them in the same place.


def _pack(made: Any) -> _Parcel:
    """Move the tensors of what was made to shared memory, or make one text of it where that has no room."""
    finder = _TensorFinder(io.BytesIO())
    finder.dump(made)
    size = sum(tensor.untyped_storage().nbytes() for tensor in finder.tensors)
    if size * _SHARE <= _free_shared_memory():
        try:
            for tensor in finder.tensors:
                tensor.share_memory_()
            return _Parcel(made)
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            # Another program was faster.
    return _Parcel(packed=pickle.dumps(made, pickle.HIGHEST_PROTOCOL))


def _unpack(parcel: _Parcel) -> Any:
    if parcel.problem is not None:
        raise parcel.problem
    if parcel.packed is None:
        return parcel.made
    _say_that_pipes_serve()
    return pickle.loads(parcel.packed)  # noqa: S301 (a worker of this process wrote it)


class _TensorFinder(pickle.Pickler):
    """Finds the tensors in whatever can be pickled."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor):
            return NotImplemented
        self.tensors.append(obj)
        return int, ()  # anything small in its place


def _free_shared_memory() -> float:
    """Bytes; without end where the system does not tell."""
    try:
        room = os.statvfs(_SHARED)
    except (OSError, AttributeError):
        return float("inf")
    return room.f_bavail * room.f_frsize


@functools.cache  # said once, whatever is free later
def _say_that_pipes_serve() -> None:
    logger.warning(
        "%s has only %.0f MB free, too little for pictures on their way from the worker processes: they come "
        "through pipes, which is slower; give a container more, as by docker run --shm-size 8g",
        _SHARED,
        _free_shared_memory() / 2**20,
    )


def _has_semaphores() -> bool:
    """Whether queues between processes can be made; their semaphores, too, are files in shared memory."""
    try:
        multiprocessing.Lock()
    except (OSError, ImportError) as error:
        logger.warning("no worker processes, pictures are read in between: no semaphores here: %s", error)
        return False
    return True


# Deaths. PyTorch's handler of SIGCHLD raises wherever the program is, also between two halves of an
# optimiser's step, after which no checkpoint would be right. It may speak only while a result is waited for.


class _Waiting:
    """The times in which a death may be raised; use as a context."""

    def __init__(self) -> None:
        self.now = False

    def __enter__(self) -> None:
        self.now = True

    def __exit__(self, *exception: object) -> None:
        self.now = False


_waiting = _Waiting()


def _defer_deaths() -> None:
    """Wrap PyTorch's handler, which it sets with the first workers of a process."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    theirs = signal.getsignal(signal.SIGCHLD)
    if callable(theirs) and str(getattr(theirs, "__module__", "")).startswith("torch."):
        signal.signal(signal.SIGCHLD, functools.partial(_raise_if_waiting, theirs))


def _raise_if_waiting(theirs: Callable[..., Any], number: int, frame: FrameType | None) -> None:
    try:
        theirs(number, frame)
    except RuntimeError:
        if _waiting.now:
            raise  # else the next wait begins with a look at the workers


def _await_death(workers: list[BaseProcess]) -> None:
    """What a dying process had open is closed before it is dead."""
    ending = multiprocessing.connection.wait([worker.sentinel for worker in workers], _LAST_WORDS)
    for worker in workers:
        if worker.sentinel in ending:
            worker.join(_LAST_WORDS)


def _refuse_dead(workers: Iterable[BaseProcess]) -> None:
    for worker in workers:
        if code := worker.exitcode:
            raise WorkerError(f"a process that reads pictures (pid {worker.pid}) {_how_it_ended(code)}")


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"ended with exit status {code}; what it printed says why"
    name = signal.Signals(-code).name
    reasons = {
        "SIGKILL": ", as the system does when memory runs out; fewer workers need less",
        "SIGBUS": f", as the system does when {_SHARED} is full; fewer workers need less",
    }
    return f"was ended by {name}{reasons.get(name, '')}"


def outlive_signals(_: int) -> None:
    """Let a worker outlive the signals that end a run, but not the one from its parent.

    Ctrl-C and a scheduler's SIGTERM may reach all processes of a run at once. The main one, which has
    something to save, ends the workers, at the latest with a SIGTERM as it exits. Where the system does not
    tell who sent a signal (macOS), SIGTERM ends a worker whoever sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = multiprocessing.parent_process()  # which is not `getppid` where a server forks
        assert parent is not None
        threading.Thread(target=_end_with_parent, args=(parent.pid,), daemon=True).start()


def _end_with_parent(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # not sys.exit, which would end this thread alone
