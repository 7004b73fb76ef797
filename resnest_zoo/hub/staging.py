"""Files that appear whole or not at all, for all who share their folder."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnest_zoo.errors import name_file

_KEPT = 60  # letters of the name, of at most 4 bytes each, so that the hidden name is never too long
_PART = re.compile(r"\..*\.[0-9a-f]{8}\.tmp", re.DOTALL)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a fresh path beside `target`; move what was written there into place, on any error remove it.

    Raises:
        OSError: it cannot be written, or is a device, pipe or socket, whose place a file must not take; the
            message names `target`.
    """
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OSError(errno.EINVAL, "is no ordinary file, choose another name", str(target))
    name = target.name[:_KEPT]
    part = target.with_name(f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with name_file(target):
            yield part
            share(part, target.parent)
            part.replace(target)
    except OSError as error:
        if error.filename != str(part):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        part.unlink(missing_ok=True)


def write_staged(target: Path, content: bytes) -> None:
    """Write a file, whole or not at all, which no loss of power undoes.

    Pictures are drawn into bytes first: Pillow's writers do not tell when a disk takes only a part.

    Raises:
        OSError: it cannot be written; the message names `target`.
    """
    with staged(target) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def remove_staged(folder: Path) -> None:
    """Remove what killed processes have left of staged files. The caller knows that no other is at work."""
    for path in folder.iterdir():
        if _PART.fullmatch(path.name):
            path.unlink(missing_ok=True)


def share(file: int | Path, folder: Path, *, write: bool = False) -> None:
    """In a folder that others may write, let them read a file of this user, whatever the umask.

    Args:
        file: its descriptor, or a path that nobody else could have foreseen.
        folder: where it is.
        write: let them write it too.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError):  # without the right to, it stays as it is
        there, own = folder.stat(), os.stat(file)  # noqa: PTH116 - also of a descriptor
        others = there.st_mode & _OTHERS_WRITE
        if not others or own.st_uid != os.geteuid():
            return
        if others & stat.S_IWGRP and own.st_gid != there.st_gid:
            os.chown(file, -1, there.st_gid)
        wanted = stat.S_IMODE(own.st_mode) | others << 1 | (others if write else 0)
        if wanted != stat.S_IMODE(own.st_mode):
            os.chmod(file, wanted)  # noqa: PTH101
