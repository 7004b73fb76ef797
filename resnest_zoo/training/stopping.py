"""How a run is asked to end: by a signal, which is heard between two iterations."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """Remembers the signal that asks the run to end.

    Attributes:
        received: by this process.
        agreed: by all processes, so that they end after the same iteration.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.agreed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # no other may
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def is_received(self) -> bool:
        """Whether this process was asked to end."""
        return self.received is not None

    @property
    def signal(self) -> signal.Signals | None:
        """Why the run ends early; another process may have been told so."""
        return self.received or (signal.SIGTERM if self.agreed else None)
