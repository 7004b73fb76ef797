from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from resnest_zoo.hub import Artifact, cache_dir, cached_path, find_fault, locked
from resnest_zoo.hub.cache import public_address, remove_unfinished

BODY = b"\x80\x02weights" * 1000
SHA = hashlib.sha256(BODY).hexdigest()


def test_cache_dir_is_the_one_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "my weights é"))
    assert cache_dir() == tmp_path / "my weights é"
    assert cached_path(Artifact("m.pth")) == tmp_path / "my weights é" / "m.pth"
    assert not cache_dir().exists()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/resnest_zoo"),
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache/resnest_zoo"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches/resnest_zoo"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/resnest_zoo"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the paths are POSIX paths")
def test_cache_dir_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("RESNEST_ZOO_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == Path(expected)


@pytest.mark.parametrize(
    ("body", "artifact", "fault"),
    [
        (BODY, Artifact("m.pth"), None),
        (BODY, Artifact("m.pth", sha256=SHA, size=len(BODY)), None),
        (BODY, Artifact("m.pth", sha256_prefix=SHA[:8]), None),
        (BODY, Artifact("m.pth", size=7), f"expected 7 bytes, got {len(BODY)}"),
        (BODY, Artifact("m.pth", sha256_prefix="00000000"), f"expected SHA-256 00000000…, got {SHA}"),
        (BODY, Artifact("m.pth", sha256="0" * 64), f"expected SHA-256 {'0' * 64}, got {SHA}"),
        (b"", Artifact("m.pth"), "expected a checkpoint, got an empty file"),
    ],
)
def test_find_fault_compares_what_is_known(
    tmp_path: Path, body: bytes, artifact: Artifact, fault: str | None
) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(body)
    assert find_fault(path, artifact) == fault


def test_a_stranger_is_named_before_anything_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(b"\n<!DOCTYPE html>")
    fault = find_fault(path, Artifact("m.pth", sha256=SHA))
    assert str(fault).startswith("expected a checkpoint, got a page of HTML or XML: ")


def test_find_fault_names_a_missing_or_unreadable_file(tmp_path: Path) -> None:
    assert find_fault(tmp_path / "none", Artifact("none")) == "it does not exist"
    assert "got a folder: name the file itself" in str(find_fault(tmp_path, Artifact("folder")))


def test_passwords_are_cut_out_of_addresses() -> None:
    assert public_address("https://me:sec@ret@host/a@b") == "https://host/a@b"


def test_only_what_dead_transfers_left_is_removed(tmp_path: Path) -> None:
    dead = [".m.pth.0123abcd.part", ".m.pth.0123abcd.json", ".m.pth.adopted.part"]
    kept = ["m.pth", "pins.json", ".pins.json.part", ".hidden", ".live.pth.0123abcd.part"]
    for name in dead + kept:
        (tmp_path / name).write_bytes(b"x")
    with locked(tmp_path / "live.pth"):
        removed = remove_unfinished(tmp_path)
    assert sorted(path.name for path in removed) == sorted(dead)
    assert all((tmp_path / name).exists() for name in kept)
    assert not any((tmp_path / name).exists() for name in dead)
    assert remove_unfinished(tmp_path / "none") == []
