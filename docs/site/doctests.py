"""Lets mkdocstrings show sessions in docstrings (">>> …") as code; Markdown takes them for quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Lines that begin with a prompt, and those that answer, up to an empty line.
_SESSION = re.compile(r"^(?:>>> .*\n?)(?:\S.*\n?)*", re.MULTILINE)


def fence(text: str) -> str:
    """A docstring with its sessions in fences."""
    return _SESSION.sub(lambda match: f"```pycon\n{match[0].rstrip()}\n```\n", text)


class Doctests(griffe.Extension):
    """Applies `fence` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each object that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = fence(obj.docstring.value)
