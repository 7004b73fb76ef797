"""Every test starts with a clean environment and an empty cache, and reaches no machine but this one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import FileServer

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's: no settings, no caches of other programs, no tokens."""
    for name in list(os.environ):
        if name.startswith(("RESNEST_ZOO_", "HF_", "HUGGING")) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    for name in ("TORCH_HOME", "FVCORE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise AssertionError(f"a test without the marker `network` reaches for {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


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
    from resnest_zoo import registry

    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(registry, "_NAMES", dict(registry._NAMES))
    monkeypatch.setattr(registry, "_READ_FILES", set(registry._READ_FILES))
