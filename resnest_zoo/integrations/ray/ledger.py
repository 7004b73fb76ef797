"""Who is at work on which pictures, so that one that kills its process is found and left out.

Ray runs the work of a dead process again, and would do so for ever. The ledger is a process of its own which
outlives the workers: each tells it what it begins and ends. What is begun a second time without having ended
was in the hands of a process that died. These pictures are then tried one by one, and one that is begun alone
`TRIES` times without an end is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

TRIES = 2  # of a picture alone; a process may have been killed for another reason
STARTS = 20  # of workers in a row of which none ended a picture, beside one for each worker


class Ledger:
    """Counts; it knows nothing of Ray, which makes an actor of it."""

    def __init__(self, workers: int = 1) -> None:
        self._at_work: set[str] = set()
        self._alone: Counter[str] = Counter()
        self._left_out: set[str] = set()  # for good, as another death may bring them back
        self._starts = 0
        self._most = STARTS + workers

    def start(self) -> bool:
        """A worker starts: whether it should, after how many others that did nothing but start."""
        self._starts += 1
        return self._starts <= self._most

    def begin(self, ids: Iterable[str]) -> bool:
        """Pictures are begun together: whether they may be, since no process has died with one of them."""
        ids = set(ids)
        if (self._at_work | self._left_out) & ids:
            return False
        self._at_work |= ids
        return True

    def begin_alone(self, picture_id: str, ended: str | None = None) -> bool:
        """One picture is begun, another `ended`: whether it may be tried once more."""
        if ended is not None:
            self.end([ended])
        if self._alone[picture_id] >= TRIES:
            self._left_out.add(picture_id)
            self.end([picture_id])
        if picture_id in self._left_out:
            return False
        self._at_work.add(picture_id)
        self._alone[picture_id] += 1
        return True

    def end(self, ids: Iterable[str]) -> None:
        """Pictures are done."""
        for picture_id in ids:
            self._at_work.discard(picture_id)
            del self._alone[picture_id]
        self._starts = 0
