"""How a run is watched: a table in a terminal, one line for each finding elsewhere."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.verify.live import Log, Silent, Table, Watcher, watch
from benchmarks.verify.outcome import Finding, Status
from tests.verify.runs import Verify

MODELS, LEVELS = ("tiny_mask", "tiny_panoptic"), ("bytes", "coco")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> Iterator[Watcher]:
    """A run whose output goes to `stream`, in a wide terminal if it is one."""
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with watch(MODELS, LEVELS, silent=False) as watcher:
        yield watcher


def shown(stream: io.StringIO) -> str:
    """What a terminal got, without its codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


@pytest.fixture
def rich(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`rich`, whose console is made anew for this test."""
    rich = pytest.importorskip("rich")
    monkeypatch.setattr(rich, "_console", None)
    return rich


@pytest.mark.usefixtures("rich")
def test_in_a_terminal_a_table_fills_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    with watched(monkeypatch, stream) as watcher:
        assert isinstance(watcher, Table)
        watcher.begin("tiny_mask", "bytes")
        watcher.end("tiny_mask", "bytes", Finding(Status.PASS))
        watcher.begin("tiny_panoptic", "coco")
        watcher.advance("val2017", 3, 8)
        watcher.advance("val2017", 2, 8)
        watcher.live.refresh()
        during = shown(stream)
        watcher.advance("val2017 with TTA", 1, 8)
        watcher.live.refresh()
        augmented = shown(stream)[len(during) :]
        watcher.end("tiny_panoptic", "coco", Finding(Status.NO_DATA))
    assert "tiny_panoptic val2017" in during
    assert "5/8" in during
    assert "…" in during
    assert "tiny_panoptic val2017 with TTA" in augmented
    assert "1/8" in augmented
    last = shown(stream).rpartition("model")[2]
    assert re.search(r"tiny_mask +pass", last)
    assert re.search(r"tiny_panoptic +data missing", last)
    assert "2/4" in last
    assert "val2017" not in last  # its bar is gone


@pytest.mark.usefixtures("rich")
def test_every_status_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    with watched(monkeypatch, stream) as watcher:
        for status in Status:
            watcher.begin("tiny_mask", "bytes")
            watcher.end("tiny_mask", "bytes", Finding(status))
            watcher.live.refresh()  # type: ignore[attr-defined]
    assert all(str(status) in shown(stream) for status in Status)


@pytest.mark.usefixtures("mirror", "rich")
def test_a_run_in_a_terminal_ends_with_the_report(
    verify: Verify, monkeypatch: pytest.MonkeyPatch, coco: object
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "120")
    report = verify("tiny_mask", "--coco", coco, "--limit", "2")
    assert report.code == 3
    text = shown(stream)
    assert "4/4" in text
    assert re.search(r"\ntiny_mask +pass +pass +not verifiable +partial\n", text)


def test_without_rich_a_terminal_gets_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with watched(monkeypatch, Terminal()) as watcher:
        assert isinstance(watcher, Log)


def test_elsewhere_each_finding_is_a_line_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with watched(monkeypatch, stream) as watcher:
        assert isinstance(watcher, Log)
        watcher.begin("tiny_mask", "bytes")
        watcher.advance("val2017", 3, 8)
        watcher.end("tiny_mask", "bytes", Finding(Status.PASS, "all agrees"))
        line = stream.getvalue()
        watcher.begin("tiny_mask", "coco")
        watcher.end("tiny_mask", "coco", Finding(Status.NO_WEIGHTS, "nobody has them", ("detail",)))
    assert re.fullmatch(r"pass +tiny_mask +bytes +all agrees +0 s\n", line)
    second = stream.getvalue()[len(line) :]
    assert re.fullmatch(r"weights unavailable +tiny_mask +coco +nobody has them +0 s\n", second)


def test_the_other_processes_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(MODELS, LEVELS, silent=True) as watcher:
        assert isinstance(watcher, Silent)
        watcher.begin("tiny_mask", "bytes")
        watcher.advance("val2017", 1, 2)
        watcher.end("tiny_mask", "bytes", Finding(Status.FAIL))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_without_rich_is_told_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for module in ("rich.console", "rich.live", "rich.progress"):
        monkeypatch.setitem(sys.modules, module, None)
    with watch(MODELS, LEVELS, silent=False):
        pass
    told = "no live table: rich is not installed: pip install 'resnest-zoo[verify]'"
    assert capsys.readouterr().out.splitlines() == [told]
