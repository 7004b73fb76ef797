from __future__ import annotations

import os
from pathlib import Path

import pytest

from resnest_zoo.errors import ConfigError
from resnest_zoo.hub import Artifact
from resnest_zoo.hub.settings import Settings
from resnest_zoo.hub.sources import Source, find_copies, find_sources

ARTIFACT = Artifact("my m é.pth", ("https://host/zoo/my%20m.pth", "https://other/m.pth"), sha256="0" * 64)
QUOTED = "my%20m%20%C3%A9.pth"


def settings(*mirrors: str, offline: bool = False) -> Settings:
    return Settings(Path("/cache"), mirrors, offline)


def test_mirrors_go_before_the_own_addresses() -> None:
    sources = find_sources(ARTIFACT, settings("https://a/b/", "/folder", "hf://me/weights"))
    assert sources == [
        Source("http", f"https://a/b/{QUOTED}"),
        Source("file", "/folder/my m é.pth"),
        Source("hf", "me/weights", "my m é.pth"),
        Source("http", "https://host/zoo/my%20m.pth"),
        Source("http", "https://other/m.pth"),
    ]


def test_offline_leaves_what_needs_no_request() -> None:
    sources = find_sources(ARTIFACT, settings("https://a", "/folder", "hf://me/weights", offline=True))
    assert [source.kind for source in sources] == ["file"]


@pytest.mark.parametrize(
    ("mirror", "source"),
    [
        ("HTTPS://a", Source("http", f"https://a/{QUOTED}")),
        ("https://a/b?sig=x%2F", Source("http", f"https://a/b/{QUOTED}?sig=x%2F")),
        ("hf://me/my.weights-2/", Source("hf", "me/my.weights-2", "my m é.pth")),
        ("hf://me/weights@v1.0", Source("hf", "me/weights@v1.0", "my m é.pth")),
        ("hf://me/weights@refs/pr/1", Source("hf", "me/weights@refs/pr/1", "my m é.pth")),
        ("file:///my%20folder", Source("file", "/my folder/my m é.pth")),
        ("~/folder", Source("file", "/home/me/folder/my m é.pth")),
        ("folder", Source("file", "folder/my m é.pth")),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the paths are POSIX paths")
def test_each_kind_of_mirror_is_understood(
    mirror: str, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert find_sources(ARTIFACT, settings(mirror))[0] == source


@pytest.mark.parametrize(
    "mirror",
    ["s3://bucket", "ftp://host/x", "hf://weights", "hf://a/b/c", "hf://../weights@", "hf://a/b@c d"],
)
def test_what_cannot_be_a_mirror_is_refused(mirror: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a mirror"):
        find_sources(ARTIFACT, settings(mirror))


def test_sources_are_shown_without_passwords() -> None:
    assert str(Source("http", "https://me:secret@host/m.pth")) == "https://host/m.pth"
    assert str(Source("hf", "me/weights@v1", "m.pth")) == "hf://me/weights@v1/m.pth"


@pytest.mark.parametrize(
    ("variable", "root", "inside"),
    [
        ("TORCH_HOME", "torch", "hub/checkpoints/my m é.pth"),
        ("XDG_CACHE_HOME", "xdg", "torch/hub/checkpoints/my m é.pth"),
        ("FVCORE_CACHE", "fvcore", "zoo/my m.pth"),
        (None, "home", ".cache/torch/hub/checkpoints/my m é.pth"),
        (None, "home", ".torch/fvcore_cache/zoo/my m.pth"),
        (None, "home", ".torch/iopath_cache/zoo/my m.pth"),
        (None, "home", ".torch/iopath_cache/m.pth"),
    ],
)
def test_caches_of_other_programs_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, root: str, inside: str
) -> None:
    path = tmp_path / root / inside
    path.parent.mkdir(parents=True)
    path.touch()
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / root))
    assert find_copies(ARTIFACT) == [path]


def test_the_folder_that_torch_hub_was_told_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.hub

    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    torch.hub.set_dir(str(tmp_path / "own"))
    path = tmp_path / "own" / "checkpoints" / ARTIFACT.filename
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_copies(ARTIFACT) == [path]


def test_nothing_is_adopted_that_nobody_can_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "m.pth").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_copies(Artifact("m.pth")) == []
    assert len(find_copies(Artifact("m.pth", sha256_prefix="00000000"))) == 1


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "a%00b", "m" * 5000, "//etc/passwd"]
)
def test_a_hostile_address_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").touch()
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache" / "a"))
    artifact = Artifact("m.pth", (f"https://host/{path}",), sha256="0" * 64)
    assert find_copies(artifact) == []


def test_without_a_home_there_are_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert find_copies(ARTIFACT) == []
