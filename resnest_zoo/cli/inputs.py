"""What a command's words mean as pictures: files, folders, patterns, lists, addresses, standard input."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from resnest_zoo.cli.common import report
from resnest_zoo.data.file_names import check_file
from resnest_zoo.data.film_names import is_film, is_url
from resnest_zoo.data.sources import find_sources, is_no_path
from resnest_zoo.errors import ImageError

STDIN = "-"


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
        return is_url(self.name)

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

    Args:
        words: what the user wrote: see `find_sources`; "-" is standard input. What is wrong with one is told,
            and the others go on.
        recursive: look into the folders of folders too.
    """
    found: dict[Input, None] = {}
    failed = 0
    for word in words:
        try:
            names = [STDIN] if word == STDIN else find_sources(word, recursive=recursive)
        except ImageError as error:
            failed += report(error)
            continue
        for name in names:
            try:
                found[_checked(name)] = None
            except ImageError as error:
                failed += report(error)
    return list(found), failed


def _checked(name: str) -> Input:
    found = Input(name)
    if name == STDIN or is_no_path(name):
        return found
    return Input(str(check_file(Path(name))))
