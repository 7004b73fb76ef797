"""A real HTTP server on 127.0.0.1 for tests, which can be told to misbehave.

with FileServer(folder) as server:
    server.replies["/model.pth"] = Reply(status=403)
    fetch(...)
    assert server.paths == ["/model.pth"]
"""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_PATIENCE = 10.0  # seconds after which a handler gives up, so that no test hangs


@dataclass(frozen=True)
class Reply:
    """What the server answers.

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


class FileServer:
    """Serve the files of a folder, and `replies` before them. Requests are recorded in `paths`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.replies: dict[str, Reply] = {}
        self.paths: list[str] = []
        self.closing = threading.Event()
        owner = self

        class Handler(_Handler):
            server_of_files = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_PATIENCE)


class _Handler(BaseHTTPRequestHandler):
    server_of_files: FileServer
    timeout = _PATIENCE

    def do_GET(self) -> None:
        owner = self.server_of_files
        owner.paths.append(self.path)
        try:
            if self.path in owner.replies:
                self._answer(owner.replies[self.path])
            else:
                self._answer_file(unquote(urlsplit(self.path).path).lstrip("/"))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client left, which many tests want it to

    def _answer(self, reply: Reply) -> None:
        self.send_response(reply.status)
        length = len(reply.body) if reply.length is None else reply.length
        if length != "":
            self.send_header("Content-Length", str(length))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body[: reply.stall_after])
        if reply.stall_after is not None:
            self.wfile.flush()
            self.server_of_files.closing.wait(_PATIENCE)

    def _answer_file(self, name: str) -> None:
        folder = self.server_of_files.folder
        path = folder / name if folder is not None else None
        if path is None or not path.is_file() or ".." in path.parts:
            self._answer(Reply(status=404))
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with path.open("rb") as file:
            shutil.copyfileobj(file, self.wfile)

    def log_message(self, *_: Any) -> None:
        pass
