"""Zoo files: entries that users write in YAML. `registry.load_zoo` shows one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, RegistryError, shown
from resnest_zoo.hub import Artifact
from resnest_zoo.zoo.entry import Entry, Reported, suggest


def read_zoo(path: Path) -> list[Entry]:
    """Read a zoo file without registering anything.

    Raises:
        RegistryError: the file cannot be read or an entry is wrong.
    """
    path = Path(os.path.expanduser(path)).absolute()
    tree = _read_yaml(path)
    if isinstance(tree, dict):
        rows = list(tree.items())
    elif isinstance(tree, list) and all(isinstance(row, dict) for row in tree):
        rows = [(row.get("name"), {key: row[key] for key in row if key != "name"}) for row in tree]
    else:
        raise RegistryError(
            f"{path}: expected a mapping of names to entries, or a list of entries with names"
        )
    entries = []
    for name, values in rows:
        try:
            entries.append(_build_entry(_text(name), values, path.parent))
        except (ValueError, OSError, RuntimeError) as error:  # the latter two: of a path in it
            raise RegistryError(f"{path}: entry {shown(name)}: {error}") from None
    return entries


def _read_yaml(path: Path) -> object:
    from resnest_zoo.config.loading import read_yaml  # imports yaml: not for those who only list

    try:
        return read_yaml(path)
    except ConfigError as error:
        raise RegistryError(f"zoo file {error}") from None


def _build_entry(name: str, values: object, folder: Path) -> Entry:
    read = _read_keys(values, _ENTRY_KEYS, required=("task", "weights"))
    artifact = _build_artifact(
        read.pop("weights"),
        folder,
        read.pop("sha256", None),
        read.pop("size", None),
        read.pop("filename", None),
    )
    if "config" in read:
        read["config"] = _find_config(read["config"], folder)
    if "classes" in read:
        read["categories"] = Categories.named(read.pop("classes"))
    return Entry(name, artifact=artifact, **read)


def _build_artifact(
    weights: tuple[str, ...], folder: Path, sha256: str | None, size: int | None, filename: str | None
) -> Artifact:
    """The file of a zoo file's entry: one path, or URLs."""
    known: dict[str, Any] = {"size": size}
    if sha256 is not None:
        known["sha256" if len(sha256) == 64 else "sha256_prefix"] = sha256.lower()
    if "://" in weights[0]:
        artifact = Artifact.from_url(weights[0])
        return dataclasses.replace(artifact, urls=weights, filename=filename or artifact.filename, **known)
    if len(weights) > 1:
        raise RegistryError(f"weights: expected one path, or only URLs; got {list(weights)}")
    path = folder / os.path.expanduser(weights[0])
    return Artifact(filename or path.name, path=path, **known)


def _find_config(config: str, folder: Path) -> str:
    beside = folder / os.path.expanduser(config)
    if beside.is_file():
        return str(beside)
    from resnest_zoo.config import resolve_path  # imports yaml: not for those who only list

    try:
        resolve_path(config)
    except ConfigError as error:
        raise RegistryError(f"config: {beside} does not exist, nor does a packaged one: {error}") from None
    return config


_Readers = Mapping[str, Callable[[object], Any]]


def _read_keys(values: object, readers: _Readers, required: tuple[str, ...]) -> dict[str, Any]:
    """Pass each value through the reader of its key; the readers raise ValueError."""
    if not isinstance(values, dict):
        raise ValueError(f"expected a mapping of keys to values, got {shown(values)}")
    read = {}
    for key, value in values.items():
        if key not in readers:
            raise ValueError(f"unknown key {shown(key)}.{suggest(str(key), readers)}")
        try:
            read[key] = readers[key](value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    for key in required:
        if key not in read:
            raise ValueError(f"the key {key!r} is missing")
    return read


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text, got {shown(value)}; digits need quotes to be text")
    return value.strip()


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("expected text or a list of texts, got an empty list")
    return tuple(map(_text, values))


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"expected a whole number above 0, got {shown(value)}")
    return value


def _percent(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"expected a number, got {shown(value)}")
    return float(value)


def _flag(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"expected true, false or null, got {shown(value)}")
    return value


def _results(value: object) -> tuple[Reported, ...]:
    rows = value if isinstance(value, list) else [value]
    read = [_read_keys(row, _RESULT_KEYS, required=("dataset", "split", "tta")) for row in rows]
    return tuple(Reported(**row) for row in read)


_RESULT_KEYS: _Readers = {
    "dataset": _text,
    "split": _text,
    "tta": _flag,
    "box": _percent,
    "mask": _percent,
    "pq": _percent,
    "decimals": _count,
}

_ENTRY_KEYS: _Readers = {
    "task": _text,
    "config": _text,
    "weights": _texts,
    "sha256": _text,
    "filename": _text,
    "size": _count,
    "classes": _texts,
    "aliases": _texts,
    "method": _text,
    "backbone": _text,
    "parameters": _count,
    "pretrained_from": _text,
    "reported": _results,
    "log_url": _text,
    "licence": _text,
    "source": _text,
}
