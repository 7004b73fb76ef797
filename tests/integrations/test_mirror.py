"""A folder becomes a mirror, and a mirror brings every model to an empty machine."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import resnest_zoo
from resnest_zoo.cli import main
from resnest_zoo.errors import DownloadError, IntegrityError, RegistryError
from resnest_zoo.hub import cache_dir
from resnest_zoo.integrations import mirror
from resnest_zoo.integrations.mirror import fill_folder, read_manifest
from resnest_zoo.registry import info
from tests.integrations.conftest import ALL
from tests.servers import FileServer, HubServer


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a mirror"


def fill(target: Path, *names: str) -> list[bool]:
    return [done.copied for done in fill_folder([info(name) for name in names], target)]


def assert_all_names_load(published: Path) -> None:
    for name in ALL:
        stored = torch.load(published / info(name).artifact.filename, weights_only=True)["model"]
        state = resnest_zoo.get(name).state_dict()
        key = "roi_heads.box_predictor.cls_score.weight"
        key = key if key in state else "roi_heads.box_predictor.0.cls_score.weight"
        assert torch.equal(state[key], stored[key]), name


@pytest.fixture
def mirrored(published: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `mirror --all` makes of local files in the published layout; the cache is empty afterwards."""
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(published))
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "first machine"))
    assert main(["mirror", str(target), *ALL]) == 0
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "second machine"))
    monkeypatch.delenv("RESNEST_ZOO_MIRROR")
    return target


@pytest.fixture
def static_server(mirrored: Path) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "--directory", str(mirrored)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"port (\d+)", process.stdout.readline())
        assert found is not None
        yield f"http://127.0.0.1:{found[1]}"
        process.kill()


def test_any_web_server_over_the_folder_serves_all_names(
    static_server: str, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not cache_dir().exists()
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", static_server)
    assert_all_names_load(published)


def test_a_hub_serves_all_names(mirrored: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with HubServer() as hub:
        for path in mirrored.glob("*.pth"):
            hub.files["org/repo", "main", path.name] = path.read_bytes()
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("RESNEST_ZOO_MIRROR", "hf://org/repo")
        assert_all_names_load(published)
        assert len({path for path in hub.paths if "/resolve/" in path}) >= len(ALL)


def test_mirror_all_means_every_detector(
    published: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", f"{published},{tiny}")
    assert main(["mirror", str(target), "--all", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == set(resnest_zoo.list_models())
    assert set(ALL) <= {row["name"] for row in rows}


# --- a folder ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mirror")
def test_a_second_run_copies_nothing(target: Path) -> None:
    assert fill(target, "tiny_mask", "tiny_detection") == [True, True]
    before = {path: path.stat().st_mtime_ns for path in target.glob("[!.]*")}
    assert fill(target, "tiny_mask", "tiny_detection") == [False, False]
    assert {path: path.stat().st_mtime_ns for path in target.glob("[!.]*")} == before


@pytest.mark.usefixtures("mirror")
def test_the_manifest_says_what_each_file_is(target: Path) -> None:
    fill(target, "tiny_mask")
    fill(target, "tiny_detection")
    artifact = info("tiny_mask").artifact
    manifest = read_manifest(target)
    assert manifest[artifact.filename] == {
        "name": "tiny_mask",
        "sha256": artifact.sha256,
        "size": artifact.size,
    }
    assert len(manifest) == 2
    assert manifest == json.loads((target / "manifest.json").read_text())["files"]


@pytest.mark.usefixtures("mirror")
def test_a_damaged_file_of_the_mirror_is_replaced(target: Path) -> None:
    fill(target, "tiny_mask")
    path = target / info("tiny_mask").artifact.filename
    body = bytearray(path.read_bytes())
    body[5000] ^= 1
    path.write_bytes(body)
    assert fill(target, "tiny_mask") == [True]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == info("tiny_mask").artifact.sha256


@pytest.mark.usefixtures("mirror")
def test_a_broken_run_is_continued_and_leaves_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = mirror.shutil.copyfile

    def break_off(source: Path, part: Path) -> None:
        if "detection" in source.name:
            part.write_bytes(b"half")
            raise KeyboardInterrupt
        copy(source, part)

    names = ("tiny_mask", "tiny_detection", "tiny_cascade")
    with monkeypatch.context() as patch:
        patch.setattr(mirror.shutil, "copyfile", break_off)
        with pytest.raises(KeyboardInterrupt):
            fill(target, *names)
    left = sorted(path.name for path in target.iterdir())
    assert left == [".mirror.lock", "manifest.json", info("tiny_mask").artifact.filename]
    assert fill(target, *names) == [False, True, True]


@pytest.mark.usefixtures("mirror")
def test_what_a_killed_run_left_is_removed(target: Path) -> None:
    target.mkdir()
    left = target / f".{info('tiny_mask').artifact.filename}.0123abcd.tmp"
    left.write_bytes(b"half")
    assert fill(target, "tiny_mask") == [True]
    assert not left.exists()


@pytest.mark.usefixtures("mirror")
def test_a_disk_that_keeps_other_bytes_is_noticed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror.shutil, "copyfile", lambda source, part: part.write_bytes(b"other"))
    with pytest.raises(IntegrityError, match="read back"):
        fill(target, "tiny_mask")
    assert [path.name for path in target.iterdir()] == [".mirror.lock"]


def test_a_failed_fetch_makes_no_folder(tiny: Path, target: Path) -> None:
    with pytest.raises(DownloadError, match="no address and no mirror"):
        fill(target, "tiny_mask")
    assert not target.exists()


@pytest.mark.usefixtures("mirror")
def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DownloadError, match="cannot be a mirror"):
            fill(target, "tiny_mask")


DIGEST = "a" * 64
ROW = {"name": "x", "sha256": DIGEST, "size": 1}


@pytest.mark.parametrize(
    "content",
    [
        *(
            pytest.param({"files": {name: ROW}}, id=f"name {name[:12]!r}")
            for name in (
                "../x.pth",
                "/etc/x.pth",
                "a\0b.pth",
                "x" * 300,
                "",
                ".hidden",
                "C:\\x",
                "a/b",
                "\ud800",
            )
        ),
        *(
            pytest.param({"files": {"x.pth": {**ROW, **change}}}, id=f"row {change}"[:40])
            for change in (
                {"sha256": None},
                {"sha256": 5},
                {"sha256": "A" * 64},
                {"sha256": "a" * 63},
                {"size": None},
                {"size": "1"},
                {"size": 1.5},
                {"size": True},
                {"size": -1},
                {"name": None},
                {"name": ["x"]},
            )
        ),
        {"files": {"x.pth": {}}},
        {"files": {"x.pth": []}},
        {"files": {"x.pth": None}},
        {"files": []},
        {"files": None},
        {},
        [],
        5,
        None,
    ],
)
@pytest.mark.usefixtures("mirror")
def test_a_hostile_manifest_is_refused_and_nothing_written(content: Any, target: Path) -> None:
    target.mkdir()
    (target / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(RegistryError, match=r"manifest\.json: no manifest of a mirror"):
        fill(target, "tiny_mask")
    assert sorted(path.name for path in target.iterdir()) == [".mirror.lock", "manifest.json"]
    assert json.loads((target / "manifest.json").read_text()) == content


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b'{"files": {"a": ' * 20_000])
def test_a_broken_manifest_is_refused(raw: bytes, target: Path) -> None:
    target.mkdir()
    (target / "manifest.json").write_bytes(raw)
    with pytest.raises(RegistryError, match="no manifest"):
        read_manifest(target)


def test_clients_do_not_trust_a_manifest(mirror: FileServer, tmp_path: Path) -> None:
    """A mirror with a manifest that agrees with its wrong bytes is refused all the same."""
    name = info("tiny_mask").artifact.filename
    body = b"\x80wrong"
    mirror.folder = tmp_path / "hostile"
    mirror.folder.mkdir()
    (mirror.folder / name).write_bytes(body)
    row = {"name": "tiny_mask", "sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    (mirror.folder / "manifest.json").write_text(json.dumps({"files": {name: row}}))
    with pytest.raises(IntegrityError):
        resnest_zoo.get("tiny_mask")
