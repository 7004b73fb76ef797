"""One right to write, held by one process or thread at a time, on any file system.

    with locked(folder / "model.pth"):          # waits for another process that writes the file
    with locked(folder / "run", wait=False):    # a second run in one folder is an error

The system's lock (`flock`) is given back when its holder dies; its file `.NAME.lock` stays. Where that lock
cannot be had (a network file system without locks, a lock file that only another user can open) a soft lock
serves: a file `.NAME.lock.held` that its holder renews. A holder that died on this machine is known at once,
one elsewhere by a file that is no longer renewed.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from resnest_zoo.errors import LockedError
from resnest_zoo.hub.staging import share

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger(__name__)

_POLL = 0.05  # seconds between two looks at a lock that another holds
_BEAT = 10.0  # seconds after which a soft lock is renewed
_DEAD = 120.0  # seconds without renewal after which its holder counts as dead
# What file systems without locks say, EBADF those that lock nothing that was opened for reading alone.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.ELOOP}
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}


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
    file = path.with_name(f".{path.name}.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(_system_lock(path, file, wait))
        except OSError as error:
            if error.errno not in _NO_LOCKS | _NOT_OURS:
                raise
            refusal = error.strerror or str(error)
        else:
            refusal = ""
        if refusal:
            stack.enter_context(_soft_lock(path, file.with_name(f"{file.name}.held"), wait))
            _note_soft(path.parent, refusal)
        yield


def _take(attempt: Callable[[], int | None], file: Path, path: Path, wait: bool) -> int:
    """Try until it works. The number that `attempt` returns is the caller's."""
    told = False
    while (taken := attempt()) is None:
        if not wait:
            raise LockedError(
                f"{path}: {_describe(file)} is at work here; wait until it ends, or choose another place"
            )
        if not told:
            logger.info("%s: waiting for %s", path.name, _describe(file))
            told = True
        time.sleep(_POLL)
    return taken


@contextmanager
def _system_lock(path: Path, file: Path, wait: bool) -> Iterator[None]:
    descriptor = _take(lambda: _try_system(file), file, path, wait)
    try:
        _write_note(descriptor, _own_note())
        yield
    finally:
        _write_note(descriptor, b"")
        _unlock_descriptor(descriptor)
        os.close(descriptor)


def _try_system(file: Path) -> int | None:
    """Take the system's lock and return its descriptor; None while another holds it."""
    descriptor = _open(file)
    try:
        _lock_descriptor(descriptor)
        if not os.path.samestat(os.fstat(descriptor), file.stat()):
            raise FileNotFoundError  # removed, and perhaps made again, between the two steps
    except OSError as error:
        os.close(descriptor)
        if error.errno in _HELD or isinstance(error, FileNotFoundError):
            return None
        raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(file: Path) -> int:
    """Open a lock file, made if it is missing, for whoever may write its folder."""
    flags = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(file, flags | os.O_RDWR, 0o644)
    except PermissionError:
        if not file.exists():
            raise
        return os.open(
            file, (flags | os.O_RDONLY) & ~os.O_CREAT
        )  # another user's; to lock it, reading will do
    share(descriptor, file.parent, write=True)
    return descriptor


def _lock_descriptor(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock_descriptor(descriptor: int) -> None:
    """Give the lock back, also where a forked process still has the file open."""
    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _write_note(descriptor: int, note: bytes) -> None:
    """Write who holds the lock, for messages alone: a full disk may refuse, or a file that is only read."""
    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, note)


@contextmanager
def _soft_lock(path: Path, mark: Path, wait: bool) -> Iterator[None]:
    _take(lambda: _try_soft(mark), mark, path, wait)
    ended = threading.Event()
    beat = threading.Thread(target=_renew, args=(mark, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        mark.unlink(missing_ok=True)


def _try_soft(mark: Path) -> int | None:
    """Make the mark; None while a living holder has it."""
    try:
        descriptor = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        _remove_dead(mark)
        return None
    try:
        os.write(descriptor, _own_note())
    except BaseException:
        mark.unlink()
        raise
    finally:
        os.close(descriptor)
    return 0


def _renew(mark: Path, ended: threading.Event) -> None:
    while not ended.wait(_BEAT):
        with suppress(OSError):
            os.utime(mark)


def _remove_dead(mark: Path) -> None:
    """Remove a mark whose holder is dead."""
    aside = mark.with_name(f"{mark.name}.{os.urandom(4).hex()}")
    try:
        note = mark.read_bytes()
        if not (_is_dead(note) or _is_old(mark, aside)):
            return
        mark.replace(aside)  # of several that find it dead, one gets it
        if aside.read_bytes() != note:
            aside.replace(mark)  # it was another's by then
    except FileNotFoundError:
        return
    finally:
        aside.unlink(missing_ok=True)


def _is_old(mark: Path, probe: Path) -> bool:
    """Whether nobody renews a mark any more, by the clock of its file system."""
    renewed = mark.stat().st_mtime
    if time.time() - renewed <= _DEAD:
        return False  # spares the probe; a clock that is ahead is found out by it
    probe.touch()
    return probe.stat().st_mtime - renewed > _DEAD


def _is_dead(note: bytes) -> bool:
    """Whether the holder that wrote the note was a process of this machine that is no more."""
    pid, where, _ = _read_note(note)
    if sys.platform == "win32" or pid is None or where != _machine():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another user's
    return False


def _own_note() -> bytes:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    note = {"pid": os.getpid(), "machine": _machine(), "node": platform.node(), "since": since}
    return json.dumps(note).encode()


def _read_note(note: bytes) -> tuple[int | None, str, str]:
    """Process, machine, and both in words, of whoever wrote a note."""
    try:
        read = json.loads(note)
        pid, machine, node, since = read["pid"], read["machine"], read["node"], read["since"]
    except (ValueError, TypeError, KeyError, RecursionError):
        pid = machine = node = since = None
    if type(pid) is not int or pid <= 0:
        return None, "", "another process"
    return pid, str(machine), f"process {pid} on {node}, since {since},"


def _describe(file: Path) -> str:
    try:
        return _read_note(file.read_bytes())[2]
    except OSError:
        return "another process"


@cache
def _machine() -> str:
    """What two processes share if they see each other's numbers: containers may share the name alone."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


@cache
def _note_soft(folder: Path, reason: str) -> None:
    """Say once for each folder that locks do not work there."""
    logger.warning(
        "%s: the system's locks cannot be used here (%s); files that say who is at work serve instead",
        folder,
        reason,
    )
