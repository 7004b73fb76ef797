"""Where files lie on disk, and whether they are the expected ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from resnest_zoo.errors import LockedError
from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.part import CHUNK
from resnest_zoo.hub.pins import Pin, Stamp, now, read_pins, stamp_of, write_pin
from resnest_zoo.hub.settings import read_settings
from resnest_zoo.recognition import HEAD, describe_folder, find_stranger


def cache_dir() -> Path:
    """Return the folder of downloaded files; it need not exist yet.

    `RESNEST_ZOO_CACHE`, or `cache` of the settings file, or `resnest_zoo` in the platform's cache folder:
    `$XDG_CACHE_HOME` or `~/.cache` on Linux, `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.
    """
    return read_settings().cache


def cached_path(artifact: Artifact) -> Path:
    """Return where the cache keeps the file, whether or not it is there."""
    return cache_dir() / artifact.filename


@dataclass(frozen=True)
class Content:
    """What the bytes of a file are.

    Attributes:
        stranger: what they are instead of a checkpoint, see `find_stranger`.
        size: their number.
        sha256: of all of them.
        stamp: of the file while it was read; None for bytes that are no file yet.
    """

    stranger: str | None
    size: int
    sha256: str
    stamp: Stamp | None = None


def read_content(path: Path) -> Content:
    """Read and hash a file.

    Raises:
        OSError: it cannot be read.
    """
    digest, head, size = sha256(), b"", 0
    stamp = stamp_of(path)
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            if len(head) < HEAD:
                head += bytes(buffer[: min(count, HEAD - len(head))])
            size += count
    return Content(find_stranger(head, path), size, digest.hexdigest(), stamp)


def find_fault(path: Path, artifact: Artifact, pin: Pin | None = None) -> str | None:
    """Say what is wrong with a file on disk. It is read whole.

    Returns:
        None if nothing is wrong, else the reason, such as "expected …, got …".
    """
    try:
        return content_fault(read_content(path), artifact, pin)
    except FileNotFoundError:
        return "it does not exist"
    except IsADirectoryError:
        return f"expected a checkpoint, got {describe_folder(path)}"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def content_fault(content: Content, artifact: Artifact, pin: Pin | None = None) -> str | None:
    """Say what is wrong with bytes: size and SHA-256 as far as the artifact or its pin know them.

    Without a known hash a page of HTML or XML, which many hosts send instead of an error, and whatever else
    `find_stranger` knows are still told from a checkpoint.

    Returns:
        As `find_fault`.
    """
    if content.stranger:
        return f"expected a checkpoint, got {content.stranger}"
    if artifact.size not in (None, content.size):
        return f"expected {artifact.size} bytes, got {content.size}"
    expected = artifact.expected_sha256
    if expected is not None and not content.sha256.startswith(expected):
        dots = "…" if len(expected) < len(content.sha256) else ""
        return f"expected SHA-256 {expected}{dots}, got {content.sha256}"
    if pin is not None and content.sha256 != pin.sha256:
        return (
            f"expected SHA-256 {pin.sha256}, pinned when the file first came ({pin.time}, {pin.source}), "
            f"got {content.sha256}; if its publisher really replaced it: "
            f"resnest-zoo cache clean --pins {artifact.filename}"
        )
    return None


def public_address(source: str) -> str:
    """The address without a user name and password, for logs and messages."""
    return re.sub(r"(?<=://)[^/\s]*@", "", source)


def pin_file(path: Path, source: str) -> Pin:
    """Pin a file that was made in the cache, such as a converted checkpoint, as it is now.

    Raises:
        OSError: the file cannot be read or the cache not written.
    """
    content = read_content(path)
    pin = Pin(content.sha256, content.size, source, now(), content.stamp)
    write_pin(path.parent, path.name, pin)
    return pin


def is_pinned(path: Path) -> bool:
    """Whether a file of the cache is there and is what its pin says; it is read only if its stamp differs."""
    pin = read_pins(path.parent).get(path.name)
    stamp = stamp_of(path)
    if pin is None or stamp is None:
        return False
    try:
        return pin.stamp == stamp or read_content(path).sha256 == pin.sha256
    except OSError:
        return False


def remove_unfinished(folder: Path) -> list[Path]:
    """Remove what dead transfers left in a cache, and leave alone what a living one is writing.

    Returns:
        The files removed.
    """
    from resnest_zoo.hub.locks import locked

    removed = []
    for path in sorted(folder.glob(".*")) if folder.is_dir() else []:
        found = re.fullmatch(r"\.(.+)\.([0-9a-f]{8}\.(part|json)|adopted\.part)", path.name)
        if found is None:
            continue
        try:
            with locked(folder / found[1], wait=False):
                path.unlink(missing_ok=True)
                removed.append(path)
        except LockedError:
            continue
    return removed
