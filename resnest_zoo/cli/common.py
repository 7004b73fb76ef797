"""What the commands share."""

from __future__ import annotations

import sys


def report(error: Exception | str) -> int:
    """Tell the user of a failure; returns 1, the exit code of one."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 1


def show_warnings() -> None:
    """Let the warnings of the library reach the user."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
