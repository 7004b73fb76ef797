"""All published names, the 21 and the eight, with tiny files behind them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnest_zoo.registry import MMDETECTION, PUBLISHED, Entry, info, register

ALL = (*PUBLISHED, *MMDETECTION)


def _kind(name: str) -> str:
    kinds = {"faster": "detection", "mask_rcnn": "mask", "panoptic": "panoptic"}
    return next((kind for start, kind in kinds.items() if name.startswith(start)), "cascade")


@pytest.fixture(scope="session")
def stand_ins(
    tiny_entries: dict[str, Entry], tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of the published file names, each file a tiny model of its own bytes."""
    folder = tmp_path_factory.mktemp("published")
    for number, name in enumerate(ALL):
        tiny = tiny_entries[_kind(name)]
        content = torch.load(tiny_folder / tiny.artifact.filename, weights_only=True)
        content["iteration"] = number
        torch.save(content, folder / info(name).artifact.filename, _use_new_zipfile_serialization=False)
    return folder


@pytest.fixture
def published(tiny: Path, tiny_entries: dict[str, Entry], stand_ins: Path) -> Path:
    """Let the names mean the stand-ins; two of them have no known hash, as in the zoo.

    Addresses stay those of the official host, which no test can reach.
    """
    for name in ALL:
        entry = info(name)
        body = (stand_ins / entry.artifact.filename).read_bytes()
        known = hashlib.sha256(body).hexdigest() if entry.artifact.sha256_prefix else None
        artifact = replace(entry.artifact, sha256=known, sha256_prefix=None, size=known and len(body))
        register(replace(entry, config=tiny_entries[_kind(name)].config, artifact=artifact), replace=True)
    return stand_ins
