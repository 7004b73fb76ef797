"""Which of several implementations computes an operation: the fastest that can, or the one that is asked for.

exact     PyTorch's and torchvision's own operators, which everything is measured by; always there
plain     PyTorch alone, other operators, the same result within rounding
onednn    operators of PyTorch that are not public; only where they are found and give the right result
kernels   the package `resnest-zoo-kernels`, where it is installed

Each is a module `resnest_zoo.ops._NAME` and has a function for each of its operations, all of one signature;
`refuse_OPERATION` with the same arguments gives the reason why it cannot take them, or None, and
`slow_OPERATION`, where there is one, why another is faster.

`RESNEST_ZOO_KERNELS` asks for one: a name, for all operations that have it, or `OPERATION=NAME` with commas
between. What cannot take its arguments is then an error instead of a reason to go on with the next.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib import import_module
from types import ModuleType

from resnest_zoo.errors import ConfigError, ZooError, shown

VARIABLE = "RESNEST_ZOO_KERNELS"

# The fastest first.
TABLE: dict[str, tuple[str, ...]] = {
    "conv2d": ("onednn", "exact"),
    "conv3x3": ("kernels", "plain", "exact"),
    "deform_conv2d": ("kernels", "plain", "exact"),
    "roi_align": ("kernels", "plain", "exact"),
    "split_attention": ("kernels", "plain", "exact"),
    # These two give the same bytes as the exact ones, so the exact path has them, too.
    "resize_image": ("kernels", "exact"),
    "encode_pasted_masks": ("kernels", "exact"),
}
_NAMES = tuple(dict.fromkeys(name for names in TABLE.values() for name in names))

_log = logging.getLogger(__name__)
_told: set[tuple[str, str, str]] = set()


def choose(operation: str, *args: object, implementation: str | None = None) -> ModuleType:
    """The module that shall compute an operation.

    Args:
        operation: one of `TABLE`.
        *args: of the operation; what its implementations decide by.
        implementation: the one to take, whatever the environment says.

    Raises:
        ZooError: the implementation that is asked for cannot take the arguments.
        ConfigError: `RESNEST_ZOO_KERNELS` or `implementation` names none.
    """
    if implementation is not None and implementation not in TABLE[operation]:
        raise ConfigError(
            f"{operation}: expected one of {', '.join(TABLE[operation])}, got {shown(implementation)}"
        )
    asked = implementation or forced(operation)
    if asked is not None:
        if reason := refusal(asked, operation, *args):
            raise ZooError(
                f"{operation}: {asked} is asked for, but cannot be used: {reason}; leave the choice open "
                f"(unset {VARIABLE}) or ask for another of {', '.join(TABLE[operation])}"
            )
        return load(asked)
    for name in TABLE[operation]:
        reason = refusal(name, operation, *args)
        if reason is None:
            module = load(name)
            slow = getattr(module, f"slow_{operation}", None)
            reason = slow(*args) if slow else None
            if reason is None:
                return module
        # That a package is not installed is for those who look for it, not for everybody's screen.
        level = logging.DEBUG if unavailable(name) else logging.INFO
        tell_once(operation, f"not by {name}", reason, level)
    raise ZooError(f"{operation}: no implementation takes these arguments: {reason}")


def refusal(name: str, operation: str, *args: object) -> str | None:
    """Why an implementation cannot compute an operation of these arguments; None if it can."""
    if reason := unavailable(name):
        return reason
    refuse = getattr(load(name), f"refuse_{operation}", None)
    if refuse is None:
        return "it has no such operation"
    given: str | None = refuse(*args)
    return given


@cache
def unavailable(name: str) -> str | None:
    """Why an implementation cannot be used here at all, decided once; None if it can."""
    try:
        module = load(name)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    available = getattr(module, "available", None)
    reason: str | None = available() if available else None
    return reason


@cache
def load(name: str) -> ModuleType:
    """The module of an implementation."""
    return import_module(f"resnest_zoo.ops._{name}")


def forced(operation: str) -> str | None:
    """The implementation that `RESNEST_ZOO_KERNELS` asks for; None where it leaves the choice open.

    Raises:
        ConfigError: it holds anything else than the names of implementations and operations.
    """
    return _parse(setting()).get(operation)


def setting() -> str:
    """What `RESNEST_ZOO_KERNELS` holds now: what was chosen under another value must be chosen anew."""
    return os.environ.get(VARIABLE, "").strip()


@cache
def _parse(text: str) -> dict[str, str]:
    if not text:
        return {}
    if text in _NAMES:
        return {operation: text for operation, names in TABLE.items() if text in names}
    found: dict[str, str] = {}
    for part in text.split(","):
        operation, _, name = (word.strip() for word in part.partition("="))
        if name not in TABLE.get(operation, ()):
            known = "; ".join(f"{key}={'|'.join(names)}" for key, names in TABLE.items())
            raise ConfigError(
                f"{VARIABLE}: expected one of {', '.join(_NAMES)}, or OPERATION=NAME with commas between "
                f"({known}), got {shown(text)}"
            )
        found[operation] = name
    return found


def tell_once(operation: str, what: str, reason: str, level: int = logging.INFO) -> None:
    """Log why an operation goes another way than the fastest, the first time."""
    key = (operation, what, reason)
    if key not in _told:
        _told.add(key)
        _log.log(level, "%s: %s: %s", *key)
