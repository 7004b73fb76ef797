"""Files of weights: what each must be, where it is kept, how it arrives. No torch in this room.

`fetch` turns an `Artifact` into the path of a verified file. Whoever only lists artifacts loads nothing else
of this room: the rest is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from resnest_zoo.hub.artifact import Artifact

if TYPE_CHECKING:
    from resnest_zoo.hub.cache import (
        Content,
        cache_dir,
        cached_path,
        content_fault,
        find_fault,
        is_pinned,
        pin_file,
        read_content,
        remove_unfinished,
    )
    from resnest_zoo.hub.download import fetch
    from resnest_zoo.hub.lockfile import read_lock, with_locked_hash, write_lock
    from resnest_zoo.hub.locks import locked
    from resnest_zoo.hub.pins import Pin, find_pin, read_pins, stamp_of, write_pin
    from resnest_zoo.hub.repositories import fetch_address

__all__ = [
    "Artifact",
    "Content",
    "Pin",
    "cache_dir",
    "cached_path",
    "content_fault",
    "fetch",
    "fetch_address",
    "find_fault",
    "find_pin",
    "is_pinned",
    "locked",
    "pin_file",
    "read_content",
    "read_lock",
    "read_pins",
    "remove_unfinished",
    "stamp_of",
    "with_locked_hash",
    "write_lock",
    "write_pin",
]

_MODULES = {
    "cache": (
        "Content",
        "cache_dir",
        "cached_path",
        "content_fault",
        "find_fault",
        "is_pinned",
        "pin_file",
        "read_content",
        "remove_unfinished",
    ),
    "download": ("fetch",),
    "lockfile": ("read_lock", "with_locked_hash", "write_lock"),
    "locks": ("locked",),
    "pins": ("Pin", "find_pin", "read_pins", "stamp_of", "write_pin"),
    "repositories": ("fetch_address",),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
