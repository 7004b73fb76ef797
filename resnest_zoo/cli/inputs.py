"""What a command's words mean as pictures: files, folders, patterns, lists, addresses, standard input."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from resnest_zoo.cli.common import report
from resnest_zoo.data.file_names import check_file, expand
from resnest_zoo.data.film_names import is_film, is_live
from resnest_zoo.errors import ImageError

STDIN = "-"
_PICTURE_SUFFIXES = re.compile(
    r"\.(avif|bmp|gif|hei[cf]|jfif|jp2|jpe?g|mpo|pgm|png|ppm|tiff?|webp)", re.IGNORECASE
)
_WILD = frozenset("*?[")
_LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Input:
    """A file of one picture or several, or one picture of a file.

    Attributes:
        name: the path as the user wrote it, an address, or "-" for standard input.
        frame: which picture of the file, from 0; None for the file itself.
    """

    name: str
    frame: int | None = None

    @property
    def key(self) -> str:
        """What it is known by: no other input has it."""
        return self.label if self.frame is None else f"{self.label}#{self.frame}"

    @property
    def is_url(self) -> bool:
        """Whether it is an http(s) address."""
        return self.name.lower().startswith(("http://", "https://"))

    @property
    def label(self) -> str:
        """The name for people and records, without the password in an address."""
        return re.sub(r"(?<=://)[^/\s]*@", "", self.name)

    @property
    def is_film(self) -> bool:
        """Whether it is a film, a camera or a stream, by its name."""
        return is_film(self.name)

    @property
    def file(self) -> Path:
        """A path that ends in the file's own name."""
        if self.name == STDIN:
            return Path("stdin")
        if self.name.lower().startswith("camera:"):
            return Path(re.sub(r"\W", "_", self.name))
        if "://" not in self.name:
            return Path(self.name)
        parts = urlsplit(self.label)
        last = unquote(parts.path).replace("\\", "/").rstrip("/").rpartition("/")[2]
        return Path(re.sub(r"[^\w. -]", "_", last or parts.netloc).strip(". ") or "address")

    def __str__(self) -> str:
        return self.label if self.frame is None else f"{self.label}, picture {self.frame + 1}"


def find_inputs(words: list[str], *, recursive: bool) -> tuple[list[Input], int]:
    """The inputs that a command line names, each once, in order; and how many cannot be used.

    A folder means the pictures in it, sorted, without hidden ones; a pattern, where no file is called so, the
    files that match; a list (.txt) the paths and addresses in it, a line each, paths relative to its folder.

    Args:
        words: what the user wrote. What is wrong with one is told, and the others go on.
        recursive: look into the folders of folders too.
    """
    found: dict[Input, None] = {}
    failed = 0
    for word in words:
        try:
            names = _names_of(word, recursive)
        except ImageError as error:
            failed += report(error)
            continue
        for name in names:
            try:
                found[_checked(name)] = None
            except ImageError as error:
                failed += report(error)
    return list(found), failed


def _names_of(word: str, recursive: bool) -> list[str]:
    """The single inputs that a word means, not looked at yet."""
    if not word:  # an unset variable of a shell; as a path it would be the current folder
        raise ImageError("a picture's name is empty")
    if _is_no_path(word):
        return [word]
    path = expand(Path(word))
    if os.path.isdir(path):  # noqa: PTH112  # which never raises
        inside = [str(found) for found in _walk(path, recursive)]
        if not inside:
            deeper = not recursive and any(os.path.isdir(below) for below in path.iterdir())  # noqa: PTH112
            more = "; --recursive looks into the folders in it" if deeper else ""
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
    return [name if _is_no_path(name) else str(path.parent / os.path.expanduser(name)) for name in names]


def _is_no_path(name: str) -> bool:
    return name == STDIN or Input(name).is_url or is_live(name)


def _checked(name: str) -> Input:
    found = Input(name)
    if _is_no_path(name):
        return found
    return Input(str(check_file(Path(name))))
