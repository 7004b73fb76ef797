"""docs/huggingface.md does what it says, against a hub on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnest_zoo.integrations.model_card import ModelCard
from tests.integrations.test_pushing import hub, pytestmark  # noqa: F401 - a fixture, and its filter
from tests.push_server import PushServer
from tests.test_pages import ROOT, blocks

PAGE = "docs/huggingface.md"


def test_the_page_does_what_it_says(
    hub: PushServer,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(PAGE, "python"):
        padded = "\n" * (block.line - 1) + block.text
        exec(compile(padded, str(ROOT / PAGE), "exec"), names)
    assert capsys.readouterr().out.startswith("hf://org/shapes@")
    assert {"README.md", "example.jpg", "example_found.jpg", "model.safetensors"} <= set(
        hub.files("org/shapes")
    )
    assert (tmp_path / "kept/shapes/README.md").is_file()
    assert isinstance(names["card"], ModelCard)
    assert names["card"].reported[0].box == 42.81
