"""Trust on first use: what each file was when it first arrived, kept in `pins.json` of the cache.

A pin holds the full SHA-256, so that a file published with eight digits or none is checked in full from its
second arrival on. It also holds the file's stamp (size and modification time): while that is unchanged a
cache hit needs no hashing.

The pin file guards against other bytes from a source and against damage on the disk, not against somebody who
can write into the cache.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from resnest_zoo.errors import ConfigError
from resnest_zoo.hub.settings import read_settings

PIN_FILE = "pins.json"

Stamp = tuple[int, int]  # bytes, modification time in ns; compared for equality only, so clocks may jump


@dataclass(frozen=True)
class Pin:
    """The first arrival of a file.

    Attributes:
        sha256: all 64 digits.
        size: bytes.
        source: where it came from, without passwords.
        time: when, UTC, ISO 8601.
        stamp: of the file in the cache when it was last hashed.
    """

    sha256: str
    size: int
    source: str
    time: str
    stamp: Stamp | None = None


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def read_pins(cache: Path) -> dict[str, Pin]:
    """The pins of a cache; none if it has no pin file or the file is damaged."""
    path = cache / PIN_FILE
    try:
        return _load(path)
    except (OSError, ValueError) as error:
        import logging  # not before: `resnest-zoo list` reads pins too

        logger = logging.getLogger(__name__)
        logger.warning("%s cannot be read (%s); files are hashed and pinned afresh", path, error)
        return {}


def _load(path: Path) -> dict[str, Pin]:
    """Raises ValueError for a damaged file, OSError for one that is there and cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        return {name: _parse(row) for name, row in json.loads(text)["files"].items()}
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _parse(row: dict[str, object]) -> Pin:
    sha256, size, stamp = row["sha256"], row["size"], row["stamp"]
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256) or type(size) is not int:
        raise ValueError("no SHA-256 or size")
    if not (stamp is None or (isinstance(stamp, list) and [type(n) for n in stamp] == [int, int])):
        raise ValueError("no stamp")
    known = None if stamp is None else (stamp[0], stamp[1])
    return Pin(sha256, size, str(row["source"]), str(row["time"]), known)


def find_pin(filename: str) -> Pin | None:
    """The pin of a file in the user's cache, if there is a cache and it has one."""
    try:
        return read_pins(read_settings().cache).get(filename)
    except ConfigError:
        return None  # whoever needs the cache is told what is wrong with the settings


def write_pin(cache: Path, name: str, pin: Pin | None) -> None:
    """Set or, with None, remove the pin of a file. Other processes' pins are kept.

    Raises:
        OSError: the cache cannot be written.
    """
    from resnest_zoo.hub.locks import locked
    from resnest_zoo.hub.staging import share

    path = cache / PIN_FILE
    with locked(path):
        try:
            pins = _load(path)
        except ValueError:
            path.replace(cache / f"{PIN_FILE}.damaged")
            pins = {}
        if pin is None:
            pins.pop(name, None)
        else:
            pins[name] = pin
        rows = {key: asdict(value) for key, value in sorted(pins.items())}
        part = cache / f".{PIN_FILE}.part"
        part.unlink(missing_ok=True)  # a killed process may have left it, of another user even
        try:
            with part.open("x", encoding="utf-8") as file:
                json.dump({"files": rows}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())  # else a power cut could leave an empty file under the name
                share(file.fileno(), cache)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def now() -> str:
    """The time as pins state it."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")
