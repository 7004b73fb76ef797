"""The file that the tests of the hub fetch, and what they look at afterwards."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from resnest_zoo.hub import Artifact, cache_dir
from tests.servers import FileServer

BODY = b"\x80\x02weights" * 300_000  # 2.7 MB: some chunks
SHA = hashlib.sha256(BODY).hexdigest()
NAME = f"model-{SHA[:8]}.pth"


def make_artifact(server: FileServer, **known: Any) -> Artifact:
    return Artifact(NAME, (f"{server.url}/{NAME}",), **(known or {"sha256_prefix": SHA[:8]}))


def unhashed(server: FileServer) -> Artifact:
    """An artifact nothing is known about."""
    return Artifact(NAME, (f"{server.url}/{NAME}",))


def visible_files() -> list[str]:
    """What users see in the cache, but for the pin file."""
    return sorted(p.name for p in files() if not p.name.startswith(".") and p.name != "pins.json")


def unfinished_files() -> list[Path]:
    """What a transfer left, but for lock files."""
    return sorted(p for p in files() if p.name.startswith(".") and p.suffix != ".lock")


def files() -> list[Path]:
    return list(cache_dir().iterdir()) if cache_dir().is_dir() else []
