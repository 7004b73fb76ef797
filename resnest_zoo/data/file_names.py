"""The files of a data set's folder, and what a name that is not there was probably meant to be."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from resnest_zoo.errors import DataError, ImageError

# What an address begins with, as a path keeps it; one letter is a disk of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?=/)")


class FileNames:
    """Which files a folder holds. It is listed once: to ask for each file is slow on network disks.

    Raises:
        DataError: there is no such folder, or it cannot be listed.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder; pictures are looked for there")
        self.folder = folder
        self._names: dict[Path, set[str]] = {}
        self._by_key: dict[Path, dict[str, str]] = {}

    def __contains__(self, name: str) -> bool:
        path = self.folder / name
        return path.name in self._list(path.parent)

    def hint(self, name: str) -> str:
        """What follows a missing name in a message: the file that is meant, as far as that can be told.

        Names are compared as web addresses, Unicode's composed forms, and both kinds of slashes write them,
        without regard to case; then the last part alone.

        Returns:
            Such as "; there is 'my photo.jpg'", or "".
        """
        parts = [part for part in _key(name).split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            return ""
        found = self._search(self.folder, parts) or self._search(self.folder, parts[-1:])
        return "" if found is None or found == name else f"; there is {found!r}"

    def _search(self, folder: Path, parts: list[str]) -> str | None:
        """The path below `folder` whose parts have these keys; a name may hold slashes of the other kind."""
        known = self._keys(folder)
        if (whole := known.get("/".join(parts))) is not None:
            return whole
        below = known.get(parts[0]) if len(parts) > 1 else None
        found = None if below is None else self._search(folder / below, parts[1:])
        return None if found is None else f"{below}/{found}"

    def _keys(self, folder: Path) -> dict[str, str]:
        if folder not in self._by_key:
            self._by_key[folder] = {_key(name): name for name in sorted(self._list(folder))}
        return self._by_key[folder]

    def _list(self, folder: Path) -> set[str]:
        if folder not in self._names:
            self._names[folder] = _list(folder)
        return self._names[folder]


def check_file(path: Path) -> Path:
    """Find the file that a picture's path means, and refuse what would not end, as pipes and devices do.

    Returns:
        The path itself if it exists, else with a `~` at its beginning replaced by the home folder.

    Raises:
        ImageError: it does not exist, cannot be looked at, or is no ordinary file.
    """
    found = expand(path)
    try:
        kind = found.stat().st_mode
    except FileNotFoundError as error:
        if scheme := _ADDRESS.match(str(path)):
            raise ImageError(
                f"{path}: addresses that begin with {scheme[0]} are not read; http and https are"
            ) from error
        raise ImageError(f"{path}: no such file{file_hint(found)}") from error
    except (OSError, ValueError) as error:  # which a NUL in the name is
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISREG(kind):
        return found
    names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    raise ImageError(f"{path}: is {names.get(stat.S_IFMT(kind), 'a device')}, not a picture")


def expand(path: Path) -> Path:
    """The path itself if it exists, as a name may begin with ~; else with the home folder in its place."""
    return path if os.path.lexists(path) else Path(os.path.expanduser(path))


def file_hint(path: Path) -> str:
    """As `FileNames.hint`, for a single file that is missing in its folder."""
    folder = path.parent
    while not os.path.isdir(folder) and folder != folder.parent:  # noqa: PTH112  # never raises
        folder = folder.parent
    try:
        return FileNames(folder).hint(str(path.relative_to(folder)))
    except DataError:  # a folder that cannot be listed has no hint
        return ""


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).replace("\\", "/").casefold()


def _list(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error
