from __future__ import annotations

import json
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from resnest_zoo.hub import cache_dir
from resnest_zoo.hub.pins import PIN_FILE, Pin, find_pin, now, read_pins, stamp_of, write_pin

PIN = Pin("0" * 64, 5, "https://host/m.pth", "2026-01-02T03:04:05+00:00", (5, 123456789))


def test_pins_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_pin(tmp_path, "b é.pth", PIN)
    write_pin(tmp_path, "a.pth", Pin("1" * 64, 7, "file", now()))
    pins = read_pins(tmp_path)
    assert pins["b é.pth"] == PIN
    assert pins["a.pth"].stamp is None
    write_pin(tmp_path, "a.pth", None)
    write_pin(tmp_path, "never pinned", None)
    assert list(read_pins(tmp_path)) == ["b é.pth"]


def test_a_cache_without_pin_file_has_no_pins(tmp_path: Path) -> None:
    assert read_pins(tmp_path) == read_pins(tmp_path / "none") == {}
    (tmp_path / "file").touch()
    assert read_pins(tmp_path / "file") == {}


def _write_some(folder: str, start: int) -> None:
    for number in range(start, start + 10):
        write_pin(Path(folder), f"{number}.pth", PIN)


def test_processes_keep_each_others_pins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_some, args=(str(tmp_path), 10 * n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert len(read_pins(tmp_path)) == 30


@pytest.mark.parametrize(
    "row",
    [
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
        {"sha256": 5},
        {"size": "5"},
        {"size": True},
        {"stamp": [1]},
        {"stamp": "now"},
        {"stamp": [1.5, 2]},
    ],
)
def test_a_malformed_pin_is_no_pin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: dict[str, Any]
) -> None:
    write_pin(tmp_path, "m.pth", PIN)
    tree = json.loads((tmp_path / PIN_FILE).read_text())
    tree["files"]["m.pth"].update(row)
    (tmp_path / PIN_FILE).write_text(json.dumps(tree))
    assert read_pins(tmp_path) == {}
    assert "cannot be read" in caplog.text


def test_pins_that_cannot_be_read_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_pin(tmp_path, "m.pth", PIN)

    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as unreadable:
        unreadable.setattr(Path, "read_text", refuse)
        with caplog.at_level(logging.WARNING):
            assert read_pins(tmp_path) == {}
        with pytest.raises(PermissionError):
            write_pin(tmp_path, "other.pth", PIN)
    assert read_pins(tmp_path) == {"m.pth": PIN}


def test_hostile_names_in_the_pin_file_reach_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    rows = {name: {**vars(PIN)} for name in ("../m.pth", "/etc/passwd", "a\0b", "m" * 9999)}
    (cache / PIN_FILE).write_text(json.dumps({"files": rows}))
    write_pin(cache, "m.pth", PIN)
    assert set(read_pins(cache)) == {*rows, "m.pth"}
    assert list(tmp_path.iterdir()) == [cache]


def test_a_stamp_is_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"12345")
    os.utime(tmp_path / "m", ns=(1, 123456789))
    assert stamp_of(tmp_path / "m") == (5, 123456789)
    assert stamp_of(tmp_path / "none") is None


def test_the_pin_of_a_file_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_pin("a.pth") is None
    cache_dir().mkdir()
    pin = Pin("a" * 64, 1, "here", "now")
    write_pin(cache_dir(), "a.pth", pin)
    assert find_pin("a.pth") == pin
    assert find_pin("b.pth") is None
    monkeypatch.setenv("RESNEST_ZOO_SETTINGS", "/nowhere")
    assert find_pin("a.pth") is None
