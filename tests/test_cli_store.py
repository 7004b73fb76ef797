"""The commands on files: what they print, write and return."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import resnest_zoo
from resnest_zoo import hub
from resnest_zoo.cli import main
from resnest_zoo.errors import ConfigError, DownloadError
from resnest_zoo.hub import Artifact, cache_dir, locked
from resnest_zoo.hub.lockfile import read_lock
from resnest_zoo.registry import info, register
from tests.servers import Fault, FileServer, Reply

ROOT = Path(__file__).parents[1]
Capture = pytest.CaptureFixture[str]


def file_of(kind: str) -> str:
    return info(f"tiny_{kind}").artifact.filename


def path_of(kind: str) -> Path:
    return cache_dir() / file_of(kind)


def as_json(capsys: Capture, *argv: str | Path, code: int = 0) -> list[dict[str, Any]]:
    assert main([*map(str, argv), "--json"]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    rows: list[dict[str, Any]] = json.loads(shown.out)
    assert code == int(not all(row["ok"] for row in rows))
    return rows


def damage(path: Path) -> None:
    """One bit of one byte, without a trace in size and time."""
    status, body = path.stat(), bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def filled(mirror: FileServer) -> FileServer:
    """A cache with two models."""
    for kind in ("mask", "detection"):
        hub.fetch(info(f"tiny_{kind}").artifact)
    return mirror


def visible() -> list[str]:
    return sorted(
        path.name for path in cache_dir().iterdir() if path.name[0] != "." and path.name != "pins.json"
    )


# --- every command ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "argv",
    [
        ["download", "nobody"],
        ["import", "x.pth", "nobody"],
        ["convert", "nobody"],
        ["mirror", "folder", "nobody"],
        ["mirror", "ftp://host/x", "tiny_mask"],
        ["mirror", "hf://x", "tiny_mask"],
        ["cache", "clean", "nobody"],
        ["cache", "clean", "--pins"],
        ["cache", "clean", "../x.pth"],
        ["download", "tiny_mask"],
        ["convert", "tiny_mask"],
        ["convert", "resnet50_msra"],
        ["mirror", "folder", "tiny_mask"],
        ["import", "missing.pth", "tiny_mask"],
        ["import", "folder/..", "tiny_mask"],
    ],
    ids=" ".join,
)
def test_a_failure_is_1_without_a_traceback_and_json_is_json(
    argv: list[str], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    (row,) = as_json(capsys, *argv, code=1)
    assert row["error"] in shown.err


@pytest.mark.parametrize(
    "argv",
    [
        ["download"],
        ["download", "--all", "-j", "0"],
        ["download", "--all", "-j", "many"],
        ["import", "FILE"],
        ["import", "FILE", "A", "B"],
        ["convert"],
        ["mirror"],
        ["mirror", "TARGET"],
        ["mirror", "TARGET", "NAME", "--all"],
        ["cache"],
        ["cache", "dance"],
        ["cache", "lock"],
        ["cache", "clean", "NAME", "--all"],
        ["cache", "verify", "-j", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("action", ["list", "verify", "clean"])
def test_a_cache_that_is_not_there_is_empty(action: str, capsys: Capture) -> None:
    assert as_json(capsys, "cache", action) == []
    assert main(["cache", action]) == 0
    assert capsys.readouterr().out == ""
    assert not cache_dir().exists()


@pytest.mark.parametrize("action", [["list"], ["verify"], ["clean"], ["clean", "--all", "--pins"]])
def test_a_cache_that_is_a_file_is_empty_or_an_error(
    action: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "file"))
    assert as_json(capsys, "cache", *action) == []


def test_wrong_settings_are_an_error(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_SETTINGS", str(tmp_path / "missing.yaml"))
    for action in ("dir", "list", "verify", "clean"):
        assert "RESNEST_ZOO_SETTINGS" in as_json(capsys, "cache", action, code=1)[0]["error"]


# --- download --------------------------------------------------------------------------------------------


def test_several_files_at_once(mirror: FileServer, capsys: Capture) -> None:
    names = ["tiny_mask", "tiny_detection", "tiny_cascade", "tiny_panoptic", "tiny_mask"]
    mirror.replies[f"/{file_of('detection')}"] = Reply(status=404)
    rows = as_json(capsys, "download", "-j", "3", *names, code=1)
    assert [row["name"] for row in rows] == names[:4]  # in order, each once
    assert [row["ok"] for row in rows] == [True, False, True, True]
    assert rows[0]["path"] == str(path_of("mask"))
    assert "HTTP 404" in rows[1]["error"]


def test_a_failure_that_nobody_foresaw_is_not_swallowed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hub, "fetch", fail)
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    for jobs in ("1", "2"):
        with pytest.raises(ZeroDivisionError):
            main(["download", "tiny_mask", "tiny_detection", "-j", jobs])


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_at_once_and_leaves_a_resumable_part(
    jobs: str, tiny: Path, server: FileServer, tmp_path: Path
) -> None:
    server.folder = tiny
    server.always = Fault(after=300_000, how="stall")
    lines = [
        f"{kind}_:\n  task: object detection\n  config: {info(f'tiny_{kind}').config}\n"
        f"  sha256: '{info(f'tiny_{kind}').artifact.sha256}'\n  weights: {server.url}/{file_of(kind)}\n"
        for kind in ("mask", "detection")
    ]
    (tmp_path / "zoo.yaml").write_text("".join(lines))
    own = {"RESNEST_ZOO_FILE": str(tmp_path / "zoo.yaml"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "resnest_zoo", "download", "mask_", "detection_", "--json", "-j", jobs]
    with subprocess.Popen(
        command, env={**os.environ, **own}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 20
        while not any(p.stat().st_size for p in cache_dir().glob(".*.part")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=10)
    assert process.returncode == 130, errors
    assert json.loads(out) == []
    assert errors == "interrupted\n"
    server.always = Fault()
    server.requests.clear()
    subprocess.run(command, env={**os.environ, **own}, check=True, capture_output=True, timeout=20)
    assert any(request.headers.get("Range") for request in server.requests)


# --- import ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["name", "file name"])
def test_import_takes_a_name_or_a_file_name(by: str, tiny: Path, capsys: Capture) -> None:
    name = "tiny_mask" if by == "name" else file_of("mask")
    (row,) = as_json(capsys, "import", tiny / file_of("mask"), name)
    assert row == {"name": name, "ok": True, "path": str(path_of("mask"))}
    assert hub.is_pinned(path_of("mask"))


@pytest.mark.parametrize("name", ["R-50.pkl", "resnet50_msra", "resnest50_detectron-255b5649.pth"])
def test_import_knows_the_file_names_of_the_zoo(name: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x02}.")
    assert main(["import", str(tmp_path / "x"), name]) == int("255b5649" in name)
    shown = capsys.readouterr()
    assert ("expected SHA-256 255b5649" in shown.err) == ("255b5649" in name)
    assert "Traceback" not in shown.err


def test_the_command_of_the_error_message_works(server: FileServer, tmp_path: Path, capsys: Capture) -> None:
    """Also for weights from a bare address, which no entry of the zoo describes."""
    body = b"\x80\x02}q."
    digits = hashlib.sha256(body).hexdigest()[:8]
    (tmp_path / "mine").write_bytes(body)
    for path in (f"/own-{digits}.pth", "/model final.pth".replace(" ", "%20")):
        artifact = Artifact.from_url(server.url + path)
        with pytest.raises(DownloadError) as caught:
            hub.fetch(artifact)
        (line,) = [line for line in str(caught.value).splitlines() if "resnest-zoo import" in line]
        name = line.split("resnest-zoo import FILE ")[1]
        assert main(["import", str(tmp_path / "mine"), name]) == 0
        assert hub.fetch(artifact).read_bytes() == body
        # another version under the old name: the message says how to accept it
        if digits not in path:
            (cache_dir() / name).unlink()
            server.replies[path] = Reply(b"\x80\x02]q.")
            with pytest.raises(DownloadError) as caught:
                hub.fetch(artifact)
            assert f"resnest-zoo cache clean --pins {name}" in str(caught.value)
            assert main(["cache", "clean", "--pins", name]) == 0
            assert hub.fetch(artifact).read_bytes() == b"\x80\x02]q."
    capsys.readouterr()
    assert main(["import", str(tmp_path / "mine"), "own-00000000.pth"]) == 1
    assert "expected SHA-256 00000000" in capsys.readouterr().err


def test_wrong_bytes_are_not_imported(tiny: Path, capsys: Capture) -> None:
    (row,) = as_json(capsys, "import", tiny / file_of("detection"), "tiny_mask", code=1)
    assert "got" in row["error"]
    assert not path_of("mask").exists()


def test_a_wrong_file_is_told_also_where_the_right_one_is_cached(
    filled: FileServer, tiny: Path, capsys: Capture
) -> None:
    (row,) = as_json(capsys, "import", tiny / file_of("detection"), "tiny_mask", code=1)
    assert "the file in the cache is right and stays" in row["error"]
    assert main(["import", str(tiny / file_of("mask")), "tiny_mask"]) == 0


def test_nothing_is_imported_for_a_file_used_where_it_lies(
    tiny: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tiny / file_of("mask")
    entry = info("tiny_mask")
    register(type(entry)("local", entry.task, Artifact("local.pth", path=path), config=entry.config))
    (row,) = as_json(capsys, "import", path, "local", code=1)
    assert "nothing to import" in row["error"]


# --- cache -----------------------------------------------------------------------------------------------


def test_dir_is_the_folder(capsys: Capture) -> None:
    assert main(["cache", "dir"]) == 0
    assert capsys.readouterr().out == f"{cache_dir()}\n"
    assert as_json(capsys, "cache", "dir") == [{"ok": True, "path": str(cache_dir())}]


def test_list_shows_files_names_and_pins(filled: FileServer, capsys: Capture) -> None:
    (cache_dir() / "foreign.bin").write_bytes(b"x")
    rows = {row["file"]: row for row in as_json(capsys, "cache", "list")}
    assert list(rows) == sorted(["foreign.bin", file_of("mask"), file_of("detection")])
    artifact = info("tiny_mask").artifact
    row = rows[artifact.filename]
    assert (row["name"], row["size"], row["sha256"]) == ("tiny_mask", artifact.size, artifact.sha256)
    assert row["source"].startswith(filled.url)
    assert rows["foreign.bin"]["sha256"] is None
    assert main(["cache", "list"]) == 0
    assert "not pinned" in capsys.readouterr().out


def test_verify_finds_one_flipped_bit(filled: FileServer, capsys: Capture) -> None:
    rows = as_json(capsys, "cache", "verify")
    assert [row["checked"] for row in rows] == ["full hash"] * 2
    damage(path_of("mask"))
    assert resnest_zoo.fetch("tiny_mask") == path_of("mask")  # why one verifies now and then
    rows = as_json(capsys, "cache", "verify", "-j", "1", code=1)
    assert {row["name"]: row["ok"] for row in rows} == {file_of("mask"): False, file_of("detection"): True}
    assert main(["cache", "verify"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {file_of('mask')}: expected SHA-256 ")
    assert shown.out == f"{file_of('detection')}  full hash\n"


def test_verify_says_what_it_could_not_check(capsys: Capture) -> None:
    cache_dir().mkdir()
    for name in ("unknown.bin", "R-50.pkl", "odd:name"):
        (cache_dir() / name).write_bytes(b"\x80x")
    rows = {row["name"]: row for row in as_json(capsys, "cache", "verify", code=1)}
    assert rows["unknown.bin"]["checked"] == rows["R-50.pkl"]["checked"] == "nothing is known of it"
    assert "contains ':'" in rows["odd:name"]["error"]


def test_verify_holds_the_first_digits_against_a_file_nobody_fetched(capsys: Capture) -> None:
    cache_dir().mkdir()
    name = info("faster_rcnn_resnest50").artifact.filename
    (cache_dir() / name).write_bytes(b"\x80x")
    (row,) = as_json(capsys, "cache", "verify", code=1)
    assert "expected SHA-256 ad123c0b…" in row["error"]


def test_clean_leaves_a_living_transfer_alone(filled: FileServer, capsys: Capture) -> None:
    dead = cache_dir() / f".{file_of('mask')}.0123abcd.part"
    living = cache_dir() / f".{file_of('cascade')}.0123abcd.part"
    for path in (dead, living):
        path.write_bytes(b"half")
    before = visible()
    with locked(cache_dir() / file_of("cascade")):
        rows = as_json(capsys, "cache", "clean")
        assert [row["name"] for row in rows] == [dead.name]
        assert as_json(capsys, "cache", "clean", "--all")
        assert living.exists()
    assert not dead.exists()
    assert before
    assert visible() == []
    assert [row["name"] for row in as_json(capsys, "cache", "clean")] == [living.name]


@pytest.mark.parametrize("by", ["name", "file name"])
def test_clean_removes_a_model_with_what_was_made_of_it(by: str, filled: FileServer, capsys: Capture) -> None:
    assert main(["convert", "tiny_mask"]) == 0
    capsys.readouterr()
    name = "tiny_mask" if by == "name" else file_of("mask")
    rows = as_json(capsys, "cache", "clean", name)
    twin = Path(file_of("mask")).with_suffix(".safetensors").name
    assert {row["name"]: row["done"] for row in rows} == {file_of("mask"): "removed", twin: "removed"}
    assert visible() == [file_of("detection")]
    assert file_of("mask") in hub.read_pins(cache_dir())
    rows = as_json(capsys, "cache", "clean", "--pins", name)
    assert {row["done"] for row in rows} == {"pin forgotten"}
    assert list(hub.read_pins(cache_dir())) == [file_of("detection")]
    assert as_json(capsys, "cache", "clean", "--pins", name) == []


def test_clean_all_follows_no_hostile_pin(filled: FileServer, tmp_path: Path, capsys: Capture) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    pin = hub.read_pins(cache_dir())[file_of("mask")]
    for name in ("../precious.txt", str(precious)):
        hub.write_pin(cache_dir(), name, pin)
    assert as_json(capsys, "cache", "clean", "--all", "--pins")
    assert precious.read_text() == "mine"
    assert visible() == []
    assert hub.read_pins(cache_dir()) == {}
    hub.write_pin(cache_dir(), "../precious.txt", pin)
    assert as_json(capsys, "cache", "clean", "--pins", "../precious.txt")
    assert precious.exists()


def test_lock_writes_what_the_package_reads(
    filled: FileServer, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "zoo.lock.json"
    rows = as_json(capsys, "cache", "lock", file)
    assert {row["name"] for row in rows} == {file_of("mask"), file_of("detection"), str(file)}
    assert rows[-1]["files"] == 2
    artifact = info("tiny_mask").artifact
    assert read_lock(file)[artifact.filename] == (artifact.sha256, artifact.size)
    monkeypatch.setattr("resnest_zoo.hub.lockfile.read_lock", lambda: read_lock(file))
    known = hub.with_locked_hash(Artifact(artifact.filename))
    assert (known.sha256, known.size) == (artifact.sha256, artifact.size)


def test_lock_keeps_what_the_file_held(filled: FileServer, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "zoo.lock.json"
    other = ("b" * 64, 5)
    hub.write_lock(file, {"other.pth": other})
    assert main(["cache", "lock", str(file)]) == 0
    assert read_lock(file)["other.pth"] == other
    assert len(read_lock(file)) == 3


def test_lock_writes_nothing_of_a_cache_that_is_not_right(
    filled: FileServer, tiny: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "zoo.lock.json"
    path_of("cascade").write_bytes((tiny / file_of("cascade")).read_bytes())
    rows = {row["name"]: row for row in as_json(capsys, "cache", "lock", file, code=1)}
    assert "never verified" in rows[file_of("cascade")]["error"]
    path_of("cascade").unlink()
    hub.write_lock(file, {file_of("mask"): ("b" * 64, 5)})
    before = file.read_bytes()
    assert ", the cache " in as_json(capsys, "cache", "lock", file, code=1)[-2]["error"]
    assert file.read_bytes() == before
    file.unlink()
    damage(path_of("mask"))
    assert main(["cache", "lock", str(file)]) == 1
    assert "expected SHA-256" in capsys.readouterr().err
    assert not file.exists()


def test_a_lock_file_that_cannot_be_written_is_one_error(
    filled: FileServer, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("in the way")
    for file in (tmp_path / "file" / "x.json", tmp_path / "missing" / "x.json"):
        assert "cannot be written" in as_json(capsys, "cache", "lock", file, code=1)[-1]["error"]
    assert as_json(capsys, "cache", "lock", tmp_path / "file", code=1)  # no lock file


# --- convert, mirror -------------------------------------------------------------------------------------


def test_convert_writes_into_the_cache_or_a_folder(
    mirror: FileServer, tmp_path: Path, capsys: Capture
) -> None:
    (row,) = as_json(capsys, "convert", "tiny_mask")
    assert row["path"] == str(path_of("mask").with_suffix(".safetensors"))
    folder = tmp_path / "out" / "deep"
    rows = as_json(capsys, "convert", "tiny_mask", "tiny_detection", "--output", folder)
    assert [Path(row["path"]).parent for row in rows] == [folder] * 2
    assert all(Path(row["path"]).is_file() for row in rows)
    assert [row["checked"] for row in as_json(capsys, "cache", "verify")] == ["full hash"] * 3


def test_convert_goes_on_after_a_failure(mirror: FileServer, capsys: Capture) -> None:
    rows = as_json(capsys, "convert", "resnet50_msra", "tiny_mask", code=1)
    assert [row["ok"] for row in rows] == [False, True]


def test_convert_makes_a_file_of_ones_own_one_that_needs_nothing_else(
    tiny: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = resnest_zoo.get("tiny_mask", pretrained=False)
    wrapped = {f"module.{key}": value for key, value in model.state_dict().items()}
    own = tmp_path / "epoch_12.pth"
    torch.save({"state_dict": wrapped, "args": argparse.Namespace(lr=0.1)}, own)
    (row,) = as_json(capsys, "convert", own, "--model", "tiny_mask")
    assert row["path"] == str(tmp_path / "epoch_12.safetensors")
    found = resnest_zoo.get(row["path"])
    assert found.categories == model.categories
    assert all(torch.equal(value, found.state_dict()[key]) for key, value in model.state_dict().items())
    (again,) = as_json(capsys, "convert", own, "--model", "tiny_mask", "--output", tmp_path / "out")
    assert Path(again["path"]).read_bytes() == Path(row["path"]).read_bytes()
    # A file that tells its model needs no --model.
    (third,) = as_json(capsys, "convert", row["path"], "--output", tmp_path / "third")
    assert resnest_zoo.get(third["path"]).config == found.config


def test_convert_never_writes_over_another_file(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    model = resnest_zoo.get("tiny_mask", pretrained=False)
    own, other = tmp_path / "best.pth", tmp_path / "best.safetensors"
    torch.save(model.state_dict(), own)
    other.write_bytes(b"something else")
    (row,) = as_json(capsys, "convert", own, "--model", "tiny_mask", code=1)
    assert "best.safetensors is there already, and not made of this file" in row["error"]
    assert other.read_bytes() == b"something else"
    other.unlink()
    for _ in range(2):  # its own conversion it may replace
        as_json(capsys, "convert", own, "--model", "tiny_mask")
    (row,) = as_json(capsys, "convert", other, "--model", "tiny_mask", code=1)
    assert "is there already" in row["error"]
    (row,) = as_json(capsys, "convert", tmp_path / "gone.pth", "--model", "tiny_mask", code=1)
    assert "No such file" in row["error"]


def test_convert_into_a_file_is_an_error(mirror: FileServer, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("in the way")
    (row,) = as_json(capsys, "convert", "tiny_mask", "--output", tmp_path / "file", code=1)
    assert "File exists" in row["error"]


def test_mirror_tells_what_it_copied(mirror: FileServer, tmp_path: Path, capsys: Capture) -> None:
    artifact = info("tiny_mask").artifact
    row = {"name": "tiny_mask", "ok": True, "path": str(tmp_path / "m" / artifact.filename)}
    expected = {**row, "sha256": artifact.sha256}
    assert as_json(capsys, "mirror", tmp_path / "m", "tiny_mask") == [{**expected, "copied": True}]
    assert as_json(capsys, "mirror", tmp_path / "m", "tiny_mask") == [{**expected, "copied": False}]


# --- list, info ------------------------------------------------------------------------------------------


def test_a_file_without_published_hash_is_shown_as_pinned_or_not(tmp_path: Path, capsys: Capture) -> None:
    name = "faster_rcnn_resnest50_dcn"

    def shown() -> tuple[str, str]:
        assert main(["list", name]) == 0
        row = capsys.readouterr().out.splitlines()[1]
        assert main(["info", name]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("SHA-256")]
        return row, line

    row, line = shown()
    assert row.endswith("  none")
    assert line.endswith("none published: the bytes cannot be verified")
    body = b"\x80\x02weights"
    (tmp_path / "x").write_bytes(body)
    assert main(["import", str(tmp_path / "x"), name]) == 0
    capsys.readouterr()
    row, line = shown()
    assert row.endswith("  none, pinned")
    assert f"{hashlib.sha256(body).hexdigest()}, pinned when it first came" in line


def test_list_needs_no_cache_and_no_home(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConfigError("no home")

    monkeypatch.setattr("resnest_zoo.hub.pins.read_settings", refuse)
    assert main(["list"]) == 0
    assert "none, pinned" not in capsys.readouterr().out
