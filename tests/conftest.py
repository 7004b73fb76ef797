"""Every test starts with a clean environment and an empty cache, and reaches no machine but this one."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import FileServer

if TYPE_CHECKING:
    from resnest_zoo.registry import Entry

if "PYTEST_XDIST_WORKER" in os.environ:  # the processors are shared; torch reads this when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's: no settings, no caches of other programs, no tokens."""
    for name in list(os.environ):
        if name.startswith(("RESNEST_ZOO_", "HF_", "HUGGING")) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    for name in ("TORCH_HOME", "FVCORE_CACHE", "XDG_CACHE_HOME", *_CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "cache"))
    if transfer := sys.modules.get("resnest_zoo.hub.transfer"):
        transfer._silent.clear()


@pytest.fixture(autouse=True)
def same_log_level() -> Iterator[None]:
    """Commands that show their progress change it."""
    logger = logging.getLogger("resnest_zoo")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("network"):
        return
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def check(host: Any) -> None:
        if host not in ("127.0.0.1", "::1", "localhost", None):
            raise AssertionError(f"a test without the marker `network` reaches for {host}")

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        connect(self, address)

    def look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        check(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    """A file server on 127.0.0.1 over the empty folder `server.folder`."""
    folder = tmp_path / "served"
    folder.mkdir()
    with FileServer(folder) as running:
        yield running


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register entries that no other test sees."""
    from tests.tiny_zoo import isolate_registry

    isolate_registry(monkeypatch)


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test open no connection at all."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def tiny_entries(tiny_folder: Path) -> dict[str, Entry]:
    from tests.tiny_zoo import write_tiny

    return {kind: write_tiny(kind, tiny_folder) for kind in ("detection", "mask", "cascade", "panoptic")}


@pytest.fixture
def tiny(own_registry: None, tiny_entries: dict[str, Entry], tiny_folder: Path) -> Iterator[Path]:
    """Register `tiny_detection`, `tiny_mask`, `tiny_cascade` and `tiny_panoptic`; the folder of their files.

    Nothing serves the files: use the folder as a mirror, or a file of it as weights.
    """
    import torch

    from resnest_zoo.registry import register

    for entry in tiny_entries.values():
        register(entry)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for each other longer than they work
    yield tiny_folder
    torch.set_num_threads(threads)


@pytest.fixture
def mirror(tiny: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """A server of the tiny models' files, set as the mirror."""
    server.folder = tiny
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", server.url)
    return server


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small photographs, a text and a folder."""
    import skimage.data
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(skimage.data.coffee()).resize((150, 100)).save(folder / "coffee.jpg")
    Image.fromarray(skimage.data.astronaut()).resize((96, 96)).save(folder / "astronaut.PNG")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "more").mkdir()
    return folder
