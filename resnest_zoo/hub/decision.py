"""What to do about a file, decided from what lies on the disk. No input or output happens here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_OFFLINE = "offline by RESNEST_ZOO_OFFLINE, HF_HUB_OFFLINE or the settings file: no request was made"


class Action(Enum):
    """One way to come by a file."""

    USE = "use"  # the cached file is right
    ADOPT = "adopt"  # a copy in another program's cache is right
    RESUME = "resume"  # go on with an unfinished transfer
    DOWNLOAD = "download"  # start a transfer
    REFUSE = "refuse"  # nothing can be done; `Decision.reason` says why


@dataclass(frozen=True)
class DiskState:
    """What lies on the disk, and what is allowed.

    Attributes:
        fault: what is wrong with the cached file; None if it is right, "it does not exist" included.
        copies: copies in other programs' caches that were verified.
        partial: bytes of an unfinished transfer that a source could continue.
        writable: whether the cache can be written.
        sources: sources that may be asked; none when offline.
        offline: whether requests are forbidden.
    """

    fault: str | None
    copies: int = 0
    partial: int = 0
    writable: bool = True
    sources: int = 1
    offline: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do, and for a refusal why."""

    action: Action
    reason: str = ""


def decide(state: DiskState) -> Decision:
    """The cheapest safe way to the file: what is here goes before what must travel."""
    if state.fault is None:
        return Decision(Action.USE)
    if not state.writable:
        return Decision(
            Action.REFUSE, f"the cache cannot be written, and its copy cannot be used: {state.fault}"
        )
    if state.copies:
        return Decision(Action.ADOPT)
    if not state.sources:
        why = _OFFLINE if state.offline else "it has no address and no mirror"
        return Decision(Action.REFUSE, why)
    return Decision(Action.RESUME if state.partial else Action.DOWNLOAD)
