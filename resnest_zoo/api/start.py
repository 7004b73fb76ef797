"""What training starts from: MODEL.WEIGHTS, or `--weights`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from resnest_zoo import hub
from resnest_zoo.config import Config
from resnest_zoo.errors import ConfigError, UnknownModelError, shown
from resnest_zoo.registry import Entry, fetch_weights, info

_TOLERANCE = 0.5  # levels of a pixel; libraries round ImageNet's mean and standard deviation differently


@dataclass(frozen=True)
class Start:
    """A file, and the entry of the zoo that it is of, if it is of one."""

    path: Path
    entry: Entry | None = None


def find_start(weights: str, config: Config) -> Start | None:
    """The file behind a path, a name or URL of the zoo, or another URL; None for "".

    Args:
        weights: what the user wrote.
        config: of the model that is to start from it.

    Raises:
        ConfigError: it is none of these, or a backbone that was trained on other input, or with its strides
            elsewhere, than the config says. The message names the key.
        DownloadError: it cannot be had.
    """
    if not weights:
        return None
    path = Path(os.path.expanduser(weights))
    if path.is_file():
        return Start(path, _find_backbone(path.name, config))
    try:
        entry = info(weights)
    except UnknownModelError as error:
        if "://" in weights:
            return Start(hub.fetch_address(weights))
        raise ConfigError(f"MODEL.WEIGHTS: {shown(weights)}: no such file, and {error}") from error
    _check_expected(entry, config)
    return Start(fetch_weights(entry), entry)


def _find_backbone(filename: str, config: Config) -> Entry | None:
    """The backbone that is published under the name of a file."""
    try:
        entry = info(filename)
    except UnknownModelError:
        return None
    if entry.task != "backbone":
        return None
    _check_expected(entry, config)
    return entry


def _check_expected(entry: Entry, config: Config) -> None:
    """Compare what a backbone was trained with to the config: no shape of a tensor would tell."""
    for key, expected in entry.expects:
        value = reduce(getattr, key.lower().split("."), config)
        if not _agrees(value, expected):
            raise ConfigError(
                f"{key}: {entry.name} was trained with {expected}, but the config says {value}; set {key} to "
                f"{expected}, or start from weights that were trained as the config says"
            )


def _agrees(value: object, expected: object) -> bool:
    if isinstance(value, tuple) and isinstance(expected, tuple):
        return all(abs(a - b) <= _TOLERANCE for a, b in zip(value, expected, strict=True))
    return value == expected
