"""Starts the processes of a run on this machine, as `torchrun` does: by environment variables."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from urllib.parse import urlsplit

from resnest_zoo.errors import ConfigError, shown

logger = logging.getLogger(__name__)

_GRACE = 10.0  # seconds that the others have when one has failed
_SAVED = (130, 143)  # ended by a signal, in order
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Machines:
    """How many processes there are and where they meet.

    Attributes:
        processes: on each machine.
        count: of machines.
        rank: of this machine, from 0.
        address: "tcp://HOST:PORT" of machine 0; "" where there is one machine only.
    """

    processes: int = 1
    count: int = 1
    rank: int = 0
    address: str = ""

    @property
    def size(self) -> int:
        """All processes together."""
        return self.processes * self.count

    def environment(self, local_rank: int) -> dict[str, str]:
        """What process `local_rank` of this machine is told; `address` must be set.

        Raises:
            ConfigError: the address is none.
        """
        host, port = _host_and_port(self.address)
        return {
            "RANK": str(self.rank * self.processes + local_rank),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
        }


def is_launched() -> bool:
    """Whether this process is one of several already, of `launch` or of torchrun."""
    return "RANK" in os.environ


def launch(command: Sequence[str], machines: Machines) -> int:
    """Run a command in each process of this machine, and wait.

    SIGTERM and Ctrl-C are passed on. When a process fails, the others are ended.

    Returns:
        0, or the exit code of the first that failed.

    Raises:
        ConfigError: the machines' numbers or their address are wrong.
    """
    if not 0 <= machines.rank < machines.count:
        raise ConfigError(f"machine rank {machines.rank}: expected 0 to {machines.count - 1}")
    if not machines.address:
        if machines.count > 1:
            raise ConfigError("several machines need the address where they meet: --dist-url tcp://HOST:PORT")
        address = f"tcp://127.0.0.1:{_free_port()}"
        machines = Machines(machines.processes, machines.count, machines.rank, address)
    environments = [machines.environment(rank) for rank in range(machines.processes)]
    # Each would take all cores; torchrun does the same.
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": "1"}
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in running:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        for environment in environments:
            # In sessions of their own, so that Ctrl-C reaches them once, from here.
            running.append(
                subprocess.Popen(  # noqa: S603 (the caller's own command)
                    list(command), env={**os.environ, **threads, **environment}, start_new_session=True
                )
            )
        return _wait(running)
    finally:
        for process in running:
            process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(running: list[subprocess.Popen[bytes]]) -> int:
    deadline, failed = 0.0, 0
    while True:
        codes = [process.poll() for process in running]
        if not failed:
            failed = next((code for code in codes if code and code not in _SAVED), 0)
            if failed:
                logger.error("process %d failed, so the others are ended", codes.index(failed))
                deadline = time.monotonic() + _GRACE
                for process in running:
                    process.terminate()
        if all(code is not None for code in codes):
            code = failed or max(code or 0 for code in codes)
            return code if code >= 0 else 128 - code  # as shells tell of a signal
        if failed and time.monotonic() > deadline:  # those that wait for the failed one hear nothing
            for process in running:
                process.kill()
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme != "tcp" or not host or not port:
        raise ConfigError(f"--dist-url: expected tcp://HOST:PORT, got {shown(address)}")
    return host, port
