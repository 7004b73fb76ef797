"""Runs of `verify` on the mini data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.verify import command, datasets
from resnest_zoo.registry import Entry, register
from tests.tiny_zoo import isolate_registry
from tests.verify.mini_coco import SIZES, MiniCoco, write_mini_coco
from tests.verify.runs import Report, Verify


@pytest.fixture(scope="session")
def mini_coco(tiny_entries: dict[str, Entry], tmp_path_factory: pytest.TempPathFactory) -> MiniCoco:
    with pytest.MonkeyPatch.context() as patch:
        isolate_registry(patch)
        for entry in tiny_entries.values():
            register(entry)
        return write_mini_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def coco(mini_coco: MiniCoco, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mini data set, which `verify` takes for the whole of COCO val2017."""
    monkeypatch.setattr(datasets, "COCO_SIZES", SIZES)
    monkeypatch.setattr(datasets, "_VAL2017", mini_coco.counts)
    return mini_coco.root


@pytest.fixture
def verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Run `verify` with these arguments; results go to `tmp_path / "results"`, the report is read."""
    file = tmp_path / "report.json"

    def run(*argv: object) -> Report:
        capsys.readouterr()
        words = ["--workers", "0", "--output", tmp_path / "results", "--json", file, *argv]
        code = command.main([str(word) for word in words])
        text = file.read_text(encoding="utf-8")
        return Report(code, capsys.readouterr().out, json.loads(text), text)

    return run
