"""Real HTTP servers on 127.0.0.1 for tests, which can be told to misbehave.

with FileServer(folder) as server:
    server.replies["/model.pth"] = Reply(status=403)            # every time
    server.script["/model.pth"] = [Reply(status=500), Fault(after=1000)]    # once each, then as usual
    fetch(...)
    assert server.paths == ["/model.pth"]

`HubServer` speaks the file endpoints of a Hugging Face hub; `tests.push_server` those of uploads, too.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

_RESET = struct.pack("ii", 1, 0)  # lingering for 0 s: closing sends RST instead of FIN
_PATIENCE = 10.0  # seconds after which a handler gives up, so that no test hangs
_Self = TypeVar("_Self", bound="FileServer")


@dataclass(frozen=True)
class Reply:
    """What the server answers instead of a file.

    Attributes:
        body: bytes sent.
        length: the Content-Length announced: None for the truth, "" for none at all.
        stall_after: bytes after which nothing more is sent until the server closes.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | str | None = None
    stall_after: int | None = None


@dataclass(frozen=True)
class Fault:
    """How an otherwise honest answer goes wrong.

    Attributes:
        after: bytes of the body after which it breaks off; None for never.
        how: "close" the connection, "reset" it, or "stall" until the server closes.
        ignore_range: send the whole with 200 whatever was asked.
        ignore_if_range: send the range of a file that has changed.
        shift: bytes by which a range is off.
        short: bytes by which a range ends too early.
        headers: further headers, or with None fewer.
        pace: seconds between two blocks of `block` bytes.
        metered: every block waits for a permit of `FileServer.permits`.
    """

    after: int | None = None
    how: str = "close"
    ignore_range: bool = False
    ignore_if_range: bool = False
    shift: int = 0
    short: int = 0
    headers: dict[str, str | None] = field(default_factory=dict)
    pace: float = 0.0
    metered: bool = False
    block: int = 1 << 16


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def shutdown_request(self, request: Any) -> None:
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET)) == _RESET:
            self.close_request(request)  # without the orderly goodbye
        else:
            super().shutdown_request(request)


class FileServer:
    """Serve the files of a folder with ranges and ETags; `script` and `replies` go first.

    Attributes:
        always: the fault of every honest answer.
        requests: what was asked, in order.
        permits: what metered answers take one of for each block.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.replies: dict[str, Reply] = {}
        self.script: dict[str, list[Reply | Fault]] = {}
        self.always = Fault()
        self.requests: list[Request] = []
        self.permits = threading.Semaphore(0)
        self.closing = threading.Event()
        owner = self

        class Handler(_Handler):
            server_of_files = owner

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of each request for a path."""
        return [request.headers.get("Range") for request in self.requests if request.path == path]

    def starts(self, path: str) -> list[int]:
        """The first byte that each request for a path asked for."""
        return [int(span[len("bytes=") : -1]) if span else 0 for span in self.ranges(path)]

    def find(self, path: str) -> tuple[bytes, dict[str, str]] | None:
        """The file at a path and its headers."""
        file = self.folder / unquote(urlsplit(path).path).lstrip("/") if self.folder else None
        if file is None or not file.is_file() or ".." in file.parts:
            return None
        body = file.read_bytes()
        return body, {
            "Content-Type": "application/octet-stream",
            "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"',
        }

    def missing(self, path: str) -> Reply:
        """The answer for a path without a file."""
        return Reply(status=404)

    def instead(self, request: Request) -> Reply | None:
        """What is answered in place of a file, such as a refusal or a redirect; None to go on."""
        return None

    def accept(self, request: Request, body: bytes) -> Reply:
        """The answer to what a client sends."""
        return Reply(status=405)

    def __enter__(self: _Self) -> _Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_PATIENCE)


class HubServer(FileServer):
    """The file endpoints of a Hugging Face hub: /ORG/REPOSITORY/resolve/REVISION/FILE.

    Attributes:
        files: (repository, revision, file name) to bytes.
    """

    COMMIT = "c0ffee" + "0" * 34

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[tuple[str, str, str], bytes] = {}

    def _parts(self, path: str) -> tuple[str, str, str] | None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", urlsplit(path).path)
        return (found[1], unquote(found[2]), unquote(found[3])) if found else None

    def find(self, path: str) -> tuple[bytes, dict[str, str]] | None:
        parts = self._parts(path)
        if parts is None:
            return None
        repository, revision, name = parts
        revision = "main" if revision == self.COMMIT else revision
        body = self.files.get((repository, revision, name))
        if body is None:
            return None
        digest = hashlib.sha256(body).hexdigest()
        return body, {
            "ETag": f'"{digest}"',
            "X-Repo-Commit": self.COMMIT,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(body)),
        }

    def missing(self, path: str) -> Reply:
        repository, revision, _ = self._parts(path) or ("", "", "")
        known = [key for key in self.files if key[0] == repository]
        code = "RepoNotFound"
        if known:
            code = "EntryNotFound" if any(key[1] == revision for key in known) else "RevisionNotFound"
        return Reply(status=404, headers={"X-Error-Code": code, "X-Error-Message": code})


class _Handler(BaseHTTPRequestHandler):
    server_of_files: FileServer
    timeout = _PATIENCE
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        owner = self.server_of_files
        request = Request(self.command, self.path, dict(self.headers))
        owner.requests.append(request)
        script = owner.script.get(self.path)
        step: Reply | Fault | None = script.pop(0) if script else owner.replies.get(self.path)
        step = step or owner.instead(request)
        try:
            if isinstance(step, Reply):
                self._answer(step)
            else:
                self._answer_file(step or owner.always)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client left, which many tests want it to

    do_HEAD = do_GET  # noqa: N815 - named by the base class

    def do_POST(self) -> None:
        owner = self.server_of_files
        request = Request(self.command, self.path, dict(self.headers))
        owner.requests.append(request)
        script = owner.script.get(self.path)
        step: Reply | Fault | None = script.pop(0) if script else owner.replies.get(self.path)
        try:
            if isinstance(step, Fault):  # the connection ends in the midst of what the client sends
                self.rfile.read(min(step.after or 0, int(self.headers.get("Content-Length", "0"))))
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.close_connection = True
                return
            body = self._read_body()
            self._answer(step or owner.instead(request) or owner.accept(request, body))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_PUT = do_POST  # noqa: N815 - named by the base class

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, reply: Reply) -> None:
        self.send_response(reply.status)
        length = len(reply.body) if reply.length is None else reply.length
        if length != "":
            self.send_header("Content-Length", str(length))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(reply.body[: reply.stall_after])
        if reply.stall_after is not None:
            self.wfile.flush()
            self.server_of_files.closing.wait(_PATIENCE)

    def _answer_file(self, fault: Fault) -> None:
        owner = self.server_of_files
        found = owner.find(self.path)
        if found is None:
            self._answer(owner.missing(self.path))
            return
        whole, headers = found
        body, status = whole, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, headers["ETag"]) or fault.ignore_if_range
        if asked and same and not fault.ignore_range:
            start = int(asked[1]) + fault.shift
            if start >= len(whole):
                self._answer(Reply(status=416, headers={"Content-Range": f"bytes */{len(whole)}"}))
                return
            end = len(whole) - fault.short
            body, status = whole[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(whole)}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), **fault.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(body, fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        owner = self.server_of_files
        sent = memoryview(body)[: fault.after]
        if fault.pace or fault.metered:
            for start in range(0, len(sent), fault.block):
                if fault.metered and not owner.permits.acquire(timeout=_PATIENCE):
                    return
                self.wfile.write(sent[start : start + fault.block])
                if owner.closing.wait(fault.pace):
                    return
        else:
            self.wfile.write(sent)
        if fault.after is None or fault.after >= len(body):
            return
        self.close_connection = True
        if fault.how == "stall":
            owner.closing.wait(_PATIENCE)
        elif fault.how == "reset":
            self.wfile.flush()
            owner.closing.wait(0.1)  # a reset throws away what the client has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def log_message(self, *_: Any) -> None:
        pass
