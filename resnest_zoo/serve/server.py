"""The process: a socket, signals, and an end in order."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import ipaddress
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from resnest_zoo.errors import ConfigError, ZooError
from resnest_zoo.serve.app import Counted, Service, build_app
from resnest_zoo.serve.guard import LOCAL, Guard
from resnest_zoo.serve.limits import CONNECTIONS, GRACE, HEAD_SECONDS

_M_ARENA_MAX = -8  # of <malloc.h>


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ZooError: the port is taken, or the host is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ZooError(
                f"--port {port} is taken by another program; choose another one, or 0 for any that is free"
            ) from error
        raise ZooError(f"--host {host} --port {port}: cannot listen there: {error.strerror}") from error


def choose_token(host: str, token: str | None) -> str | None:
    """The token that clients need: the one given, else a fresh one where others than this machine can ask.

    Raises:
        ConfigError: the one given is too short, or cannot stand in an address.
    """
    if token is None:
        return None if host in LOCAL else secrets.token_urlsafe(24)
    if len(token) < 16 or not token.replace("-", "").replace("_", "").isalnum() or not token.isascii():
        raise ConfigError("--token: expected 16 letters or more of A-Z, a-z, 0-9, - and _")
    return token


def address_of(host: str, port: int, token: str | None) -> str:
    """What to open."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - not bound to
    with suppress(ValueError):
        name = f"[{name}]" if ipaddress.ip_address(name).version == 6 else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


class Connection(H11Protocol):
    """uvicorn's, which closes connections on which no request comes, or none that is whole.

    uvicorn's own limit ends with the first byte, and begins after an answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch."""
        super().connection_made(transport)
        self._look(object())

    def _look(self, last: object) -> None:
        """Close it if no request has begun since the last look, and none is worked on."""
        if self.transport.is_closing():
            return
        if self.cycle is last and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
            return
        self.loop.call_later(HEAD_SECONDS, self._look, self.cycle)


class Server(uvicorn.Server):
    """uvicorn's, which tells streams without an end that it ends."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take in a signal."""
        self.service.closing = True
        super().handle_exit(sig, frame)


def build_server(
    service: Service, *, host: str, port: int, names: Sequence[str] = (), token: str | None = None
) -> Server:
    """The server of a service, to be run with sockets.

    Args:
        service: what is served.
        host: that it is bound to.
        port: likewise.
        names: further names that it has.
        token: that clients must know.
    """
    app = Guard(build_app(service), host=host, names=names, token=token, port=port)
    config = uvicorn.Config(
        Counted(app, service),
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=CONNECTIONS,
    )
    return Server(config, service)


def keep_memory_flat() -> None:
    """Have glibc keep two arenas of memory.

    By default each new thread may get one, up to eight for each processor, and what it has freed stays there:
    over 800 requests the process grew by 45 MiB and went on; with two it stays as it is.
    """
    with suppress(OSError, AttributeError, TypeError):  # another system, or another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def run(server: Server, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, which end it in order.

    Args:
        server: built by `build_server`.
        listening: its socket.
        ready: called when clients can connect and signals end it.
    """
    keep_memory_flat()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # Before uvicorn takes them over; after it has ended by one it raises it once more.
    previous = {sig: signal.signal(sig, server.handle_exit) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        ready()
        server.run(sockets=[listening])
    finally:
        for sig, handler in previous.items():
            signal.signal(sig, handler)
