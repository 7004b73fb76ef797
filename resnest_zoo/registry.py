"""Every model of the zoo: where its config and weights are, and what was published about it.

    zoo.entry        the record of one model
    zoo.published    the 21 detectors, as data
    zoo.backbones    the ImageNet backbones that training starts from
    zoo.mmdetection  eight detectors that mmdetection trained, as data
    zoo.shipped      the two small detectors whose weights come with the package
    zoo.zoo_file     entries written by users

The files named in `RESNEST_ZOO_FILE` (separated as in `PATH`) are read at the first lookup. Building models
is left to others: no torch in this room.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from resnest_zoo import hub
from resnest_zoo.errors import DownloadError, RegistryError, UnknownModelError, shown
from resnest_zoo.zoo.backbones import backbone_entries
from resnest_zoo.zoo.entry import TASKS, Entry, Reported, Task, suggest
from resnest_zoo.zoo.mmdetection import mmdetection_entries
from resnest_zoo.zoo.published import published_entries
from resnest_zoo.zoo.shipped import shipped_entries

__all__ = [
    "MMDETECTION",
    "PUBLISHED",
    "SHIPPED",
    "TASKS",
    "Entry",
    "Reported",
    "Task",
    "fetch_weights",
    "info",
    "list_models",
    "load_zoo",
    "register",
]

_ENTRIES: dict[str, Entry] = {}  # by name, in the order of registration
_NAMES: dict[str, str] = {}  # normalised name or alias: name
_READ_FILES: set[str] = set()  # zoo files of RESNEST_ZOO_FILE already registered
_LOCK = Lock()  # held while the tables above are replaced


def list_models(pattern: str = "*", *, task: str | None = None, backbones: bool = False) -> list[str]:
    """Return the names that match a shell pattern, such as `mask_*`, in the order of registration.

    Args:
        pattern: matched against names, not aliases; upper and lower case are the same.
        task: only models of this task, one of `TASKS`.
        backbones: also list the ImageNet backbones that training starts from.

    Returns:
        Names; an empty list if nothing matches.

    Raises:
        RegistryError: there is no such task, or a zoo file of `RESNEST_ZOO_FILE` is wrong.
    """
    from fnmatch import fnmatchcase

    if task is not None and task not in TASKS:
        raise RegistryError(f"unknown task {shown(task)}.{suggest(task, TASKS)}")
    _read_environment()
    return [
        entry.name
        for entry in _ENTRIES.values()
        if fnmatchcase(entry.name.lower(), pattern.lower())
        and task in (None, entry.task)
        and (entry.task != "backbone" or backbones or task == "backbone")
    ]


def info(name: str | Path) -> Entry:
    """Return the entry of a name, an alias, or the URL of a checkpoint.

    Case, "-" or "_", and a trailing .pth, .pkl or .yaml make no difference.

    Raises:
        UnknownModelError: no such entry; the message suggests the closest names. Or not a name at all.
        RegistryError: a zoo file of `RESNEST_ZOO_FILE` is wrong.
    """
    if not isinstance(name, (str, Path)):
        raise UnknownModelError(f"a model's name is text or a path, got {shown(name)}")
    name = name.as_posix() if isinstance(name, Path) else name
    _read_environment()
    known = _NAMES.get(_normalise(name))
    if known is not None:
        return _ENTRIES[known]
    for entry in _ENTRIES.values():
        if name.strip() in entry.artifact.urls:
            return entry
    last = _normalise(name).rsplit("/", 1)[-1]
    raise UnknownModelError(
        f"No model is called {shown(name)}.{suggest(last, _NAMES, _NAMES)} `resnest-zoo list` shows all."
    )


def fetch_weights(entry: Entry, *, progress: bool | Callable[[int, int | None], None] | None = None) -> Path:
    """The verified file of an entry's weights, downloaded on first use.

    Args:
        entry: of the zoo.
        progress: show a progress bar; None shows one if stderr is a terminal. Or a function; see `hub.fetch`.

    Raises:
        DownloadError: no source delivered the right bytes; see `hub.fetch`. The message names another
            training of the same architecture, where one lies on another host.
    """
    try:
        return hub.fetch(entry.artifact, progress=progress)
    except DownloadError as error:
        siblings = [f"{other.name} (on {other.artifact.host})" for other in _siblings(entry)]
        if not siblings:
            raise
        hint = f"\n  Another training of this architecture lies elsewhere: {' or '.join(siblings)}"
        raise type(error)(f"{error}{hint}") from error


def _siblings(entry: Entry) -> list[Entry]:
    """Detectors of the same method and backbone whose weights lie on another host."""
    return [
        other
        for other in _ENTRIES.values()
        if entry.method
        and (other.method, other.backbone, other.task) == (entry.method, entry.backbone, entry.task)
        and other.artifact.host not in (None, entry.artifact.host)
    ]


def register(entry: Entry, *, replace: bool = False) -> None:
    """Add an entry for this process.

    Args:
        entry: the model.
        replace: take the place of the entry of the same name, if there is one.

    Raises:
        RegistryError: the name or an alias is taken, or another entry's file has the same name but is not the
            same file.
    """
    with _LOCK:
        _add([entry], without=entry.name if replace else None)


def load_zoo(path: str | os.PathLike[str]) -> list[Entry]:
    """Register the entries of a zoo file, all or none.

    The file maps names to entries:

        my_detector:
          task: object detection
          config: my_detector.yaml        # beside this file, an absolute path, or one of the packaged configs
          weights: my_detector.pth        # beside this file, an absolute path, a URL or a list of URLs
          sha256: "9f86d081…"             # all 64 digits, or at least the first 8, in quotes
          classes: [helmet, vest]

    or is a list of such entries, each with a `name`. Further keys: `filename`, `size`, and the text fields of
    `Entry`, `aliases`, `parameters` and `reported` (a list of `Reported` as mappings).

    Returns:
        The new entries, in the order of the file.

    Raises:
        RegistryError: the file cannot be read, an entry is wrong or its name is taken. The message names
            file, entry and key.
    """
    from resnest_zoo.zoo.zoo_file import read_zoo

    entries = read_zoo(Path(path))
    with _LOCK:
        _add(entries)
    return entries


def _add(entries: Iterable[Entry], without: str | None = None) -> None:
    """Register entries together: none of them if one clashes. Readers see the old tables or the new ones."""
    global _ENTRIES, _NAMES
    entries_now = {name: entry for name, entry in _ENTRIES.items() if name != without}
    names_now = {key: name for key, name in _NAMES.items() if name != without}
    files_now = {_place(entry): entry for entry in entries_now.values() if entry.artifact.path is None}
    for entry in entries:
        if entry.name in entries_now:
            raise RegistryError(f"{entry.name}: there is an entry of this name already")
        for name in (entry.name, *entry.aliases):
            owner = names_now.setdefault(_normalise(name), entry.name)
            if owner != entry.name:
                raise RegistryError(f"{entry.name}: the name {shown(name)} is taken by the entry {owner!r}")
        if entry.artifact.path is None:
            other = files_now.setdefault(_place(entry), entry)
            if other.artifact != entry.artifact:
                raise RegistryError(
                    f"{entry.name}: its file {entry.artifact.filename!r} has the name of another file, "
                    f"that of {other.name!r}; give it a `filename` of its own"
                )
        entries_now[entry.name] = entry
    _ENTRIES, _NAMES = entries_now, names_now


def _place(entry: Entry) -> str:
    """Where its file lies in the cache; some systems take upper and lower case for the same."""
    return entry.artifact.filename.lower()


def _normalise(name: str) -> str:
    name = name.strip().lower().replace("-", "_")
    for extension in (".pth", ".pkl", ".yaml", ".yml"):
        name = name.removesuffix(extension)
    return name


def _read_environment() -> None:
    """Register the zoo files of `RESNEST_ZOO_FILE` that are not registered yet."""
    named = [path for path in os.environ.get("RESNEST_ZOO_FILE", "").split(os.pathsep) if path]
    if _READ_FILES.issuperset(named):
        return
    from resnest_zoo.zoo.zoo_file import read_zoo

    with _LOCK:
        new = [path for path in dict.fromkeys(named) if path not in _READ_FILES]
        _add(entry for path in new for entry in read_zoo(Path(path)))
        _READ_FILES.update(new)


_add(published_entries())
PUBLISHED = tuple(_ENTRIES)  # the 21, in order
_add(backbone_entries())
_theirs, _shipped = list(mmdetection_entries()), list(shipped_entries())
_add(_theirs)
MMDETECTION = tuple(entry.name for entry in _theirs)  # the eight of another host
_add(_shipped)
SHIPPED = tuple(entry.name for entry in _shipped)  # whose weights come with the package
