"""The code blocks of README.md do what they say; CI runs the shell ones. Commands of docs/ are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from benchmarks.fill import write_checkpoint
from resnest_zoo import registry
from resnest_zoo.api import find_config
from resnest_zoo.cli import _parser, train_net

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_to_files(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert "://" in link or (file.parent / link).exists(), link


def commands_of_training() -> list[str]:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    return [line for line in lines.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("command", commands_of_training())
def test_commands_of_the_page_on_training_are_understood(command: str) -> None:
    """Their options and keys exist; what the options do is tested where they are defined."""
    words = re.sub(r"^torchrun --nproc-per-node \d+ (-m )?|^python ", "", command)
    program, *rest = shlex.split(words)
    if program == "train_net.py":
        args = train_net._parser().parse_args(rest)
        name, keys = args.config_file, args.overrides
    else:
        assert program in ("resnest-zoo", "resnest_zoo")
        args = _parser().parse_args(rest)
        name, keys = args.model, args.overrides
    find_config("mask_rcnn_resnest50" if name == "my.yaml" else name).override(keys)


def commands_of_sources() -> list[str]:
    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    return "".join(re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)).splitlines()


@pytest.mark.parametrize("command", commands_of_sources())
def test_commands_of_the_page_on_sources_are_understood(command: str) -> None:
    program, *rest = shlex.split(command.removeprefix("python "))
    if program == "train_net.py":
        args = train_net._parser().parse_args(rest)
        assert registry.info(args.overrides[1]).task == "backbone"
        return
    args = _parser().parse_args(rest)
    for name in (getattr(args, "weights", None), getattr(args, "name", None)):
        assert name is None or registry.info(name)


@pytest.mark.usefixtures("own_registry")
def test_the_zoo_file_is_one(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "zoo.yaml").write_text(block)
    (tmp_path / "my_detector.yaml").write_text("_BASE_: Base-RCNN-FPN.yaml\n")
    (entry,) = registry.load_zoo(tmp_path / "zoo.yaml")
    assert entry.name == "my_detector"
    assert entry.categories is not None
    assert entry.categories.things == ("helmet", "vest")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint("faster_rcnn_resnest50_dcn", tmp_path / "mirror")
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(skimage.data.coffee()).save("photo.jpg")
    exec(compile(blocks("python")[number], "README.md", "exec"), {})
