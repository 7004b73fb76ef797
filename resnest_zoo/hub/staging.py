"""Files that appear whole or not at all, for all who share their folder."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a fresh path beside `target`; move what was written there into place, on any error remove it."""
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield part
        share(part, target.parent)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


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
