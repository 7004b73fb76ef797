"""What a word means as pictures: a file, those of a folder or a pattern, the lines of a list, an address."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from resnest_zoo.data.file_names import expand
from resnest_zoo.data.film_names import is_live, is_url
from resnest_zoo.errors import ImageError

_PICTURE_SUFFIXES = re.compile(
    r"\.(avif|bmp|gif|hei[cf]|jfif|jp2|jpe?g|mpo|pgm|png|ppm|tiff?|webp)", re.IGNORECASE
)
_WILD = frozenset("*?[")
_LIST_SUFFIX = ".txt"


def find_sources(word: str, *, recursive: bool = False) -> list[str]:
    """The single inputs that a word means, not looked at yet.

    A folder means the pictures in it, sorted, without hidden ones; a pattern, where no file is called so, the
    files that match; a list (.txt) the paths and addresses in it, a line each, paths relative to its folder;
    anything else itself.

    Args:
        word: a path as a user writes it, an http(s) address, or the name of a camera or a stream.
        recursive: look into the folders of folders too.

    Raises:
        ImageError: a folder holds no picture, a pattern matches no file, or a list cannot be read.
    """
    if not word:  # an unset variable of a shell; as a path it would be the current folder
        raise ImageError("a picture's name is empty")
    if is_no_path(word):
        return [word]
    path = expand(Path(word))
    if os.path.isdir(path):  # noqa: PTH112  # which never raises
        inside = [str(found) for found in _walk(path, recursive)]
        if not inside:
            deeper = not recursive and any(os.path.isdir(below) for below in path.iterdir())  # noqa: PTH112
            more = "; recursive=True (--recursive) looks into the folders in it" if deeper else ""
            raise ImageError(f"{word}: no pictures in this folder{more}")
        return inside
    if path.suffix.lower() == _LIST_SUFFIX and os.path.isfile(path):  # noqa: PTH113
        return _listed(path)
    if _WILD & set(word) and not os.path.lexists(path):
        matching = sorted(glob.glob(os.path.expanduser(word), recursive=True))  # noqa: PTH207  # as typed
        files = [name for name in matching if not os.path.isdir(name) and not _is_hidden(name)]  # noqa: PTH112
        if not files:
            raise ImageError(f"{word}: no file matches")
        return files
    return [word]


def is_no_path(name: str) -> bool:
    """Whether a name is an address, a camera or a stream."""
    return is_url(name) or is_live(name)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    """The pictures of a folder, sorted, then of the folders in it; links to folders are not followed."""
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ImageError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    yield from (path for path in inside if _PICTURE_SUFFIXES.fullmatch(path.suffix))
    for path in inside if recursive else ():
        if os.path.isdir(path) and not path.is_symlink():  # noqa: PTH112
            yield from _walk(path, recursive)


def _is_hidden(name: str) -> bool:
    return Path(name).name.startswith("._")  # what macOS puts beside files on other disks


def _listed(path: Path) -> list[str]:
    """The lines of a list of pictures; empty ones and comments (#) are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path}: the list cannot be read: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise ImageError(f"{path}: the list names no picture")
    return [name if is_no_path(name) else str(path.parent / os.path.expanduser(name)) for name in names]
