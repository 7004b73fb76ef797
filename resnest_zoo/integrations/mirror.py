"""A folder that serves the zoo's files: behind any static web server, in a bucket, or on a share.

The folder holds the files under their published names, which is all that `RESNEST_ZOO_MIRROR` needs, and
`manifest.json`, which says what each was when it was written:

    {"files": {"FILE": {"name": "ENTRY", "sha256": "…", "size": 1}}}

Clients do not trust the manifest: they check what they receive against the published hashes and their pins.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnest_zoo import hub
from resnest_zoo.errors import DownloadError, IntegrityError, RegistryError, shown
from resnest_zoo.hub import Content, read_content
from resnest_zoo.hub.staging import staged
from resnest_zoo.registry import Entry, fetch_weights

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Mirrored:
    """What happened to one file.

    Attributes:
        name: of the entry.
        path: of the file in the folder.
        sha256: of its bytes, read back from the disk.
        size: bytes.
        copied: False if it was there already.
    """

    name: str
    path: Path
    sha256: str
    size: int
    copied: bool


def fill_folder(
    entries: Iterable[Entry], folder: Path, *, progress: bool | None = None
) -> Iterator[Mirrored]:
    """Bring the files of `entries` into `folder`, one after the other; what is there and right stays.

    Each file is fetched and verified like any other, copied under a temporary name, read back, and only then
    moved into place and entered into the manifest. A broken run is continued by the next one.

    Args:
        entries: whose files to mirror.
        folder: made if it is missing.
        progress: as in `hub.fetch`.

    Raises:
        DownloadError: a file cannot be had, or the folder cannot be written.
        RegistryError: the folder's manifest is malformed or names a file outside the folder.
    """
    for entry in entries:
        if entry.artifact.filename.lower() == _MANIFEST:
            raise RegistryError(f"{entry.name}: its file cannot be mirrored under the name of the manifest")
        source = fetch_weights(entry, progress=progress)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with hub.locked(folder / "mirror"):
                done = _mirror(entry, source, folder / entry.artifact.filename)
        except DownloadError:
            raise
        except OSError as error:
            raise DownloadError(f"{folder} cannot be a mirror: {error.strerror or error}") from error
        yield done


def _mirror(entry: Entry, source: Path, target: Path) -> Mirrored:
    """Mirror one file. The caller holds the folder's lock, so that leftovers are those of dead processes."""
    manifest = read_manifest(target.parent)
    for leftover in target.parent.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    wanted = read_content(source)
    present = target.is_file() and read_content(target).sha256 == wanted.sha256
    if not present:
        _copy(source, target, wanted)
    row = {"name": entry.name, "sha256": wanted.sha256, "size": wanted.size}
    if manifest.get(target.name) != row:
        _write_manifest(target.parent, {**manifest, target.name: row})
    return Mirrored(entry.name, target, wanted.sha256, wanted.size, not present)


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of a mirror's manifest by file name; none if it has no manifest.

    Raises:
        RegistryError: it is malformed, or a name in it is not a plain file name.
    """
    path = folder / _MANIFEST
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["files"]
        for filename, row in rows.items():
            if not isinstance(row["sha256"], str) or type(row["size"]) is not int:
                raise RegistryError(f"{shown(filename)}: no SHA-256 or size")
            hub.Artifact(filename, sha256=row["sha256"], size=row["size"])  # checks names and digits
            if not isinstance(row["name"], str):
                raise RegistryError(f"{shown(filename)}: no entry's name")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RegistryError(f"{path}: no manifest of a mirror: {shown(error)}") from error
    manifest: dict[str, dict[str, Any]] = rows
    return manifest


def _copy(source: Path, target: Path, wanted: Content) -> None:
    with staged(target) as part:
        shutil.copyfile(source, part)
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        written = read_content(part)
        if written.sha256 != wanted.sha256:
            raise IntegrityError(f"{target}: expected {wanted.sha256}, read back {written.sha256}")


def _write_manifest(folder: Path, manifest: dict[str, dict[str, Any]]) -> None:
    with staged(folder / _MANIFEST) as part:
        part.write_text(json.dumps({"files": dict(sorted(manifest.items()))}, indent=1), encoding="utf-8")
