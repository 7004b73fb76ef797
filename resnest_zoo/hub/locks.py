"""One right to write, held by one process or thread at a time, on any file system.

    with locked(folder / "model.pth"):          # waits for another process that writes the file
    with locked(folder / "run", wait=False):    # a second run in one folder is an error

The system's lock is given back when its holder dies; its file `.NAME.lock` stays and says who holds it. Where
that lock cannot be had (a network file system without locks, a lock file that only another user can open) a
lease serves: a file `.NAME.lock.held` that its holder renews. A holder that died on this machine is known at
once, one elsewhere by a lease that is no longer renewed.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_zoo.errors import LockedError
from resnest_zoo.hub.staging import share

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)

_POLL = 0.05  # seconds between two looks at a lock that another holds
_LEASE = 120.0  # seconds without renewal after which the holder of a lease counts as dead
# What file systems without locks say, EBADF those that lock nothing that was opened for reading alone.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.ELOOP}


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of `path` while the block runs. It excludes this very thread too: never nest it.

    Args:
        path: what is locked; it need not exist, its folder must.
        wait: until another holder ends; else one is an error.

    Raises:
        LockedError: another process or thread holds it, and `wait` is False. The message says who.
        OSError: the folder is not there or cannot be written.
    """
    lock = _acquire(path, wait)
    try:
        yield
    finally:
        lock.release()


def _acquire(path: Path, wait: bool) -> BaseFileLock:
    """The system's lock, or where that cannot be had a lease, taken."""
    from filelock import FileLock, SoftFileLease

    path.parent.stat()  # filelock would make the folder
    file = path.with_name(f".{path.name}.lock")
    # Only a system lock fits in here: filelock's own fallback knows but one way of having none (ENOSYS).
    system = FileLock(file, fallback_to_soft=False, on_acquired=partial(_write_note, file.parent))
    try:
        return _take(system, path, wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS | _NOT_OURS:
            raise
        refusal = error.strerror or str(error)
    _note_soft(path.parent, refusal)
    return _take(SoftFileLease(file.with_name(f"{file.name}.held"), lease_duration=_LEASE), path, wait)


def _take(lock: BaseFileLock, path: Path, wait: bool) -> BaseFileLock:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = _describe(lock)
        if not wait:
            raise LockedError(
                f"{path.parent}: {holder} is at work here; wait until it ends, or choose another place"
            ) from None
        logger.info("%s: waiting for %s", path.name, holder)
        lock.acquire(timeout=-1, poll_interval=_POLL)
    return lock


def _write_note(folder: Path, descriptor: int) -> None:
    """Write who holds the system's lock, for messages alone: a full disk may refuse."""
    share(descriptor, folder, write=True)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"pid": os.getpid(), "node": platform.node(), "since": since}
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(note).encode())


def _describe(lock: BaseFileLock) -> str:
    """Who holds a lock, as far as its file tells."""
    from filelock import SoftFileLease

    if isinstance(lock, SoftFileLease):
        owner = lock.owner
        return f"process {owner.pid} on {owner.hostname}" if owner else "another process"
    try:
        note = json.loads(Path(lock.lock_file).read_bytes())
        return f"process {int(note['pid'])} on {note['node']}, since {note['since']},"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "another process"


@cache
def _note_soft(folder: Path, reason: str) -> None:
    """Say once for each folder that locks do not work there."""
    logger.warning(
        "%s: the system's locks cannot be used here (%s); files that say who is at work serve instead",
        folder,
        reason,
    )
