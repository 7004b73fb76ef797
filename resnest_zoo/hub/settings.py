"""What users decide about the hub: environment variables, then one settings file.

    RESNEST_ZOO_CACHE     folder of downloaded files
    RESNEST_ZOO_MIRROR    mirrors, separated by commas, asked before a file's own addresses
    RESNEST_ZOO_OFFLINE   anything but 0, false, no or off: no request is made; so does HF_HUB_OFFLINE
    RESNEST_ZOO_SETTINGS  the settings file; by default settings.yaml in the platform's config folder

The settings file is YAML with the keys `cache`, `mirrors` (a list) and `offline`. The environment goes first.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from resnest_zoo.errors import ConfigError, shown


@dataclass(frozen=True)
class Settings:
    """Decisions of the user.

    Attributes:
        cache: folder of downloaded files; it need not exist yet.
        mirrors: addresses or folders, in the order they are asked.
        offline: make no request.
    """

    cache: Path
    mirrors: tuple[str, ...]
    offline: bool


def read_settings() -> Settings:
    """The settings in force now.

    Raises:
        ConfigError: the settings file is malformed.
    """
    stored = _read_stored()
    cache = os.environ.get("RESNEST_ZOO_CACHE") or stored.get("cache")
    mirrors = [m.strip() for m in os.environ.get("RESNEST_ZOO_MIRROR", "").split(",") if m.strip()]
    own = os.environ.get("RESNEST_ZOO_OFFLINE", "").strip()
    offline = _is_on(own) if own else stored.get("offline", False)
    return Settings(
        cache=_expand(cache) if cache else _platform_folder("cache"),
        mirrors=(*mirrors, *stored.get("mirrors", ())),
        offline=offline or _is_on(os.environ.get("HF_HUB_OFFLINE", "")),
    )


def _is_on(value: str) -> bool:
    return value.strip().lower() not in ("", "0", "false", "no", "off")


def _expand(path: str) -> Path:
    """An absolute path; `~` is the user's home.

    Raises:
        ConfigError: nobody knows where the user's home is, as in some containers.
    """
    expanded = os.path.expanduser(path)
    if expanded == path and Path(path).parts[:1] == ("~",):
        raise ConfigError(
            f"{path}: there is no home folder here; RESNEST_ZOO_CACHE chooses a folder for the cache"
        )
    return Path(expanded).absolute()


def _platform_folder(kind: str) -> Path:
    """Our folder for the `cache` or the `config` of the user, as the platform has it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA" if kind == "cache" else "APPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches" if kind == "cache" else "~/Library/Application Support"
    else:
        base = os.environ.get(f"XDG_{kind.upper()}_HOME") or f"~/.{kind}"
    return _expand(base) / "resnest_zoo"


def _read_stored() -> dict[str, Any]:
    """The settings file; a missing one is an error only if the user named it."""
    named = os.environ.get("RESNEST_ZOO_SETTINGS")
    try:
        path = _expand(named) if named else _platform_folder("config") / "settings.yaml"
        status = path.stat()
    except (OSError, ConfigError) as error:
        if named:
            raise ConfigError(f"RESNEST_ZOO_SETTINGS: {named} cannot be read: {error}") from error
        return {}
    return _parse_file(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _parse_file(path: Path, _time: int, _size: int) -> dict[str, Any]:
    import yaml

    try:
        stored = yaml.safe_load(path.read_bytes()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: the settings cannot be read: {error}") from error
    if not isinstance(stored, dict):
        raise ConfigError(f"{path}: expected the keys cache, mirrors and offline, got {shown(stored)}")
    expected = {"cache": str, "mirrors": list, "offline": bool}
    for key, value in stored.items():
        if key not in expected:
            raise ConfigError(f"{path}: unknown key {shown(key)}; expected {', '.join(expected)}")
        if not isinstance(value, expected[key]):
            raise ConfigError(f"{path}: {key}: expected a {expected[key].__name__}, got {shown(value)}")
    if not all(isinstance(mirror, str) for mirror in stored.get("mirrors", [])):
        raise ConfigError(f"{path}: mirrors: expected a list of addresses, got {shown(stored['mirrors'])}")
    return stored
