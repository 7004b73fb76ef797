"""`zoo.lock.json`: full hashes of published files, as they become known, shipped in the package."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from resnest_zoo.errors import RegistryError
from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.staging import staged

PACKAGED = Path(__file__).parents[1] / "zoo.lock.json"


@cache
def read_lock(path: Path = PACKAGED) -> dict[str, tuple[str, int]]:
    """File name to (SHA-256, bytes).

    Raises:
        RegistryError: the file is malformed, or a name in it is no plain file name.
    """
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        rows = {name: (row["sha256"], row["size"]) for name, row in files.items()}
        for name, (sha256, size) in rows.items():
            if not isinstance(sha256, str) or type(size) is not int:
                raise RegistryError(f"{name}: no SHA-256 or size")
            Artifact(name, sha256=sha256, size=size)  # checks them
        return rows
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RegistryError(f"{path}: no lock file: {error}") from error


def write_lock(path: Path, files: dict[str, tuple[str, int]]) -> None:
    """Write a lock file, whole or not at all."""
    rows = {name: {"sha256": sha256, "size": size} for name, (sha256, size) in sorted(files.items())}
    with staged(path) as part:
        part.write_text(json.dumps({"files": rows}, indent=2) + "\n", encoding="utf-8")
    read_lock.cache_clear()


def with_locked_hash(artifact: Artifact) -> Artifact:
    """The artifact with its full hash and size, if the packaged lock file knows them."""
    if artifact.sha256 is not None or artifact.filename not in read_lock():
        return artifact
    sha256, size = read_lock()[artifact.filename]
    return replace(artifact, sha256=sha256, size=size)
