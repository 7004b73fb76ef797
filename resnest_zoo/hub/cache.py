"""Where files lie on disk, and whether they are the expected ones.

A file appears under its own name only when it is whole: it is written under a hidden temporary name in the
same folder and renamed at the end.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnest_zoo.hub.artifact import Artifact

CHUNK = 1 << 20  # bytes read at once
HEAD = 512  # bytes in which `looks_like_markup` decides


def cache_dir() -> Path:
    """Return the folder of downloaded files; it need not exist yet.

    `RESNEST_ZOO_CACHE` if set, else `resnest_zoo` in the platform's cache folder: `$XDG_CACHE_HOME` or
    `~/.cache` on Linux, `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.
    """
    if chosen := os.environ.get("RESNEST_ZOO_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "resnest_zoo"


def cached_path(artifact: Artifact) -> Path:
    """Return where the cache keeps the file, whether or not it is there."""
    return cache_dir() / artifact.filename


def find_fault(path: Path, artifact: Artifact) -> str | None:
    """Say what is wrong with a file on disk.

    Size and SHA-256 are compared as far as the artifact knows them. Without a known hash a page of HTML or
    XML, which many hosts send instead of an error, is still told from a checkpoint.

    Returns:
        None if nothing is wrong, else the reason, such as "expected …, got …".
    """
    from hashlib import sha256

    digest = sha256()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD)
            if artifact.expected_sha256 is not None and artifact.size in (None, size):
                digest.update(head)
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
    except FileNotFoundError:
        return "it does not exist"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return bytes_fault(artifact, head, size, digest.hexdigest())


def bytes_fault(artifact: Artifact, head: bytes, size: int, sha256: str) -> str | None:
    """Say what is wrong with bytes already read: their first `HEAD`, their number, and their SHA-256.

    Returns:
        As `find_fault`.
    """
    expected = artifact.expected_sha256
    if size == 0:
        return "expected a checkpoint, got an empty file"
    if looks_like_markup(head):
        return "expected a checkpoint, got a page of HTML or XML"
    if artifact.size not in (None, size):
        return f"expected {artifact.size} bytes, got {size}"
    if expected is not None and not sha256.startswith(expected):
        return f"expected SHA-256 {expected}{'…' if len(expected) < len(sha256) else ''}, got {sha256}"
    return None


def looks_like_markup(head: bytes) -> bool:
    """Tell a page from a checkpoint by its first bytes.

    A safetensors file may begin with any byte, '<' among them, but has a NUL within its first eight.
    """
    return re.match(rb"(\xef\xbb\xbf)?\s*<", head) is not None and b"\0" not in head


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the right to write `target`, waiting while another process or thread has it.

    The operating system gives the lock back when its holder dies. The empty lock file stays.
    """
    from filelock import FileLock

    with FileLock(target.with_name(f".{target.name}.lock")):
        yield


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a fresh path beside `target`; move what was written there into place, on any error remove it."""
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
