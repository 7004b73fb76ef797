"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a fresh path beside `target`; move what was written there into place, on any error remove it."""
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
