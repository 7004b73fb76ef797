"""An unfinished file: written under a hidden name of this process alone, hashed as it grows, resumable.

`.NAME.TOKEN.part` holds the bytes and `.NAME.TOKEN.json` says which version of which source they are of. A
part left behind by a dead process is taken over by the next one, which holds the file's lock; so nothing is
ever written by two.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from resnest_zoo.hub.pins import Stamp
from resnest_zoo.hub.staging import share
from resnest_zoo.recognition import HEAD

CHUNK = 1 << 20  # bytes read at once
_FLUSH = 1 << 24  # bytes after which the system is asked to begin writing them to the disk


@dataclass(frozen=True)
class Origin:
    """Where the bytes of a part come from.

    Attributes:
        url: digest of the address, which may hold a password and is only ever compared.
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

    def is_of(self, url: str) -> bool:
        """Whether the bytes come from this address."""
        return self.url == url_digest(url)


def url_digest(url: str) -> str:
    """What `Origin.url` holds of an address."""
    return sha256(url.encode(errors="surrogateescape")).hexdigest()


class Part:
    """The unfinished file of one target. As a context manager it closes the file and keeps what is resumable.

    Attributes:
        origin: where the bytes come from; None if nothing may be continued.
        head: the first bytes.
        size: bytes so far.
        digest: their SHA-256.
        intact: whether the bytes are known to be those that were received. What a killed process left may
            have been torn by the machine's crash as well; only a hash of the whole file can tell.
        joined: whether they are not all of one answer.
        promised: SHA-256 of the whole, if the source itself states it.
    """

    def __init__(self, target: Path) -> None:
        """Take over what a dead process left, or start empty. The caller holds the target's lock.

        Raises:
            OSError: the folder cannot be written.
        """
        self.target = target
        token = secrets.token_hex(4)
        self.path = target.with_name(f".{target.name}.{token}.part")
        self._note = target.with_name(f".{target.name}.{token}.json")
        self.origin: Origin | None = None
        self.promised: str | None = None
        self.head, self.size, self.digest = b"", 0, sha256()
        self._flushed = 0
        self.intact, self.joined = True, False
        largest = max(filter(_is_writable, leftovers(target)), key=_size, default=None)
        mark: object = None
        if largest is not None:
            self.origin, mark = _read_note(largest.with_suffix(".json"))
            if self.origin is not None:  # before the bytes get their new name: killed here, nothing is lost
                self.remember(self.origin)
            largest.replace(self.path)
        remove_leftovers(target, but=(self.path, self._note))
        self.file: IO[bytes] = self.path.open("x+b" if largest is None else "r+b", buffering=0)
        share(self.file.fileno(), target.parent)
        if self.origin is None:
            self.restart()
        else:
            self._hash_again()
            self.intact, self.joined = mark == self._mark(), True

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file.closed:
            return
        if self.size == 0 or self.origin is None:
            self.discard()
            return
        if self.intact:
            with suppress(OSError):  # without the mark there is only less to resume
                self.file.truncate(self.size)  # Ctrl-C may have come before the last bytes were counted
                self._write_note(self.origin, self._mark())
        self.file.close()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        rest = memoryview(chunk)
        while rest:  # the unbuffered file may take less than all
            rest = rest[self.file.write(rest) :]
        self._count(chunk)
        if self.size - self._flushed >= _FLUSH:
            _start_flush(self.file, self._flushed, self.size - self._flushed)
            self._flushed = self.size

    def _count(self, chunk: bytes) -> None:
        digest, head = self.digest.copy(), self.head
        digest.update(chunk)
        if len(head) < HEAD:
            head += chunk[: HEAD - len(head)]
        # All at once, so that an interruption leaves a size and the hash of just as many bytes.
        self.digest, self.head, self.size = digest, head, self.size + len(chunk)

    def restart(self) -> None:
        """Forget the bytes."""
        self._note.unlink(missing_ok=True)  # first: it must never describe the bytes that come next
        self.origin = None
        self.file.seek(0)
        self.file.truncate()
        self.head, self.size, self.digest = b"", 0, sha256()
        self._flushed = 0
        self.intact, self.joined = True, False

    def remember(self, origin: Origin) -> None:
        """Write down where the bytes come from, so that another process can go on."""
        self.origin = origin
        self._write_note(origin, None)

    def finish(self) -> Stamp:
        """Put the whole file into its place and return its stamp there."""
        os.fsync(self.file.fileno())
        status = os.fstat(self.file.fileno())
        self.file.close()
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)
        return status.st_size, status.st_mtime_ns

    def discard(self) -> None:
        """Remove the bytes from the disk."""
        self.file.close()
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _mark(self) -> list[object]:
        return [self.size, self.digest.hexdigest()]

    def _write_note(self, origin: Origin, mark: list[object] | None) -> None:
        self._note.write_text(json.dumps({"origin": asdict(origin), "mark": mark}), encoding="utf-8")

    def _hash_again(self) -> None:
        while chunk := self.file.read(CHUNK):
            self._count(chunk)


def _start_flush(file: IO[bytes], start: int, size: int) -> None:
    """Let the disk work while more arrives: else all waits for `fsync` at the end."""
    if sys.platform == "linux":
        os.posix_fadvise(file.fileno(), start, size, os.POSIX_FADV_DONTNEED)


def leftovers(target: Path) -> list[Path]:
    """Unfinished files of `target`."""
    return [path for path in _hidden_files(target) if path.suffix == ".part"]


def remove_leftovers(target: Path, but: tuple[Path, ...] = ()) -> None:
    """Remove unfinished files of `target` and the notes to them. The caller holds its lock."""
    for path in _hidden_files(target):
        if path not in but:
            with suppress(PermissionError):  # another user's, in a folder where each removes his own alone
                path.unlink(missing_ok=True)


def partial_size(target: Path) -> int:
    """Bytes of the largest unfinished file of `target`."""
    return max(map(_size, filter(_is_writable, leftovers(target))), default=0)


def _hidden_files(target: Path) -> list[Path]:
    own = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.(part|json)")
    try:
        names = [name for name in os.listdir(target.parent) if own.fullmatch(name)]  # noqa: PTH208
    except OSError:
        return []
    return [target.with_name(name) for name in names]


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_note(path: Path) -> tuple[Origin | None, object]:
    """What a note says, and the size and hash its process wrote down at its end, if it ended in order."""
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        origin = Origin(**note["origin"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, None  # nobody can say what the bytes are: start over
    texts = (origin.etag, origin.modified)
    if not isinstance(origin.url, str) or not all(text is None or _is_header(text) for text in texts):
        return None, None
    if not (origin.total is None or type(origin.total) is int):
        return None, None
    return origin, note.get("mark")


def _is_header(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable()
