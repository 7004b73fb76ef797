"""An unfinished file: written under a hidden name of this process alone, hashed as it grows, resumable.

`.NAME.TOKEN.part` holds the bytes and `.NAME.TOKEN.part.json` which source they came from and how that source
names its version. A part left behind by a dead process is taken over by the next one, which holds the file's
lock; so nothing is ever written by two.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

CHUNK = 1 << 20  # bytes read at once
HEAD = 512  # bytes that tell a page from a checkpoint


@dataclass(frozen=True)
class Origin:
    """Where the bytes of a part come from.

    Attributes:
        url: of the source.
        etag: strong ETag of the source's version.
        modified: its Last-Modified, for a source without ETag.
        total: bytes of the whole file, if announced.
    """

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` must say for the source to continue this very version."""
        return self.etag or self.modified


class Part:
    """The unfinished file of one target. As a context manager it closes the file and keeps the bytes."""

    def __init__(self, target: Path) -> None:
        """Take over what a dead process left, or start empty. The caller holds the target's lock.

        Raises:
            OSError: the folder cannot be written.
        """
        self.target = target
        self.path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self.origin: Origin | None = None
        self.head = b""
        self.size = 0
        self.digest = sha256()
        left = leftovers(target)
        largest = max(left, key=lambda path: path.stat().st_size, default=None)
        if largest is not None:
            self.origin = _read_origin(largest)
            largest.replace(self.path)
        for path in left:
            path.unlink(missing_ok=True)
            _origin_path(path).unlink(missing_ok=True)
        self.file: IO[bytes] = self.path.open("r+b" if largest is not None else "x+b")
        if self.origin is not None:
            self.remember(self.origin)
            self._hash_again()
        else:
            self.restart()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.size == 0:
            self.discard()

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes."""
        self.file.write(chunk)
        self.digest.update(chunk)
        if len(self.head) < HEAD:
            self.head += bytes(chunk[: HEAD - len(self.head)])
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget the bytes."""
        self.file.seek(0)
        self.file.truncate()
        self.head, self.size, self.digest = b"", 0, sha256()
        self.origin = None

    def remember(self, origin: Origin) -> None:
        """Write down where the bytes come from, so that another process can go on."""
        self.origin = origin
        _origin_path(self.path).write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def finish(self) -> None:
        """Put the whole file into its place."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self.path.replace(self.target)
        _origin_path(self.path).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the bytes from the disk."""
        self.file.close()
        self.path.unlink(missing_ok=True)
        _origin_path(self.path).unlink(missing_ok=True)

    def _hash_again(self) -> None:
        self.file.seek(0)
        while chunk := self.file.read(CHUNK):
            self.digest.update(chunk)
            self.head += chunk[: HEAD - len(self.head)]
            self.size += len(chunk)


def leftovers(target: Path) -> list[Path]:
    """Unfinished files of `target`."""
    try:
        names = [path.name for path in target.parent.iterdir()]
    except OSError:
        return []
    own = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part")
    return [target.with_name(name) for name in names if own.fullmatch(name)]


def _origin_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_origin(part: Path) -> Origin | None:
    try:
        return Origin(**json.loads(_origin_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # nobody can say what the bytes are: start over
