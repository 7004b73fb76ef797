"""What the pages show in code: blocks run as they stand, commands are understood, and little is left out.

A page of `TOGETHER` is run from top to bottom in a folder of its own, Python and commands. Blocks of other
pages are run by the tests named in `ELSEWHERE`; what cannot be run offline and at once is in `NOT_RUN`, with
the reason, and its commands are at least parsed.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from resnest_zoo import registry
from resnest_zoo.api import find_config
from resnest_zoo.cli import _parser, main, train_net

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
TOGETHER = [
    f"docs/{name}.md" for name in ("coming-from", "custom-loops", "howto", "predict", "results", "speed")
]
# By page and number of the block among those of Python or shell on it, from 0.
ELSEWHERE = {
    ("README.md", 0): ".ci/run",
    ("README.md", 1): "tests/test_readme.py",
    ("README.md", 2): "tests/test_readme.py",
    ("README.md", 3): ".ci/run",
    **{("docs/detectron2.md", k): "tests/integrations/test_detectron2.py" for k in range(4)},
    **{("docs/export.md", k): "tests/exporting/test_export_page.py" for k in range(5)},
    ("docs/finetune.md", 1): "tests/test_finetune_page.py",
    ("docs/howto.md", 12): "tests/integrations/test_sahi.py",
    **{("docs/huggingface.md", k): "tests/integrations/test_huggingface_page.py" for k in range(4)},
    **{("docs/many-machines.md", k): "tests/integrations/test_ray_job.py" for k in range(5)},
    ("docs/predict.md", 0): "tests/test_cli_films.py",
    **{("docs/serve.md", k): "tests/serve/test_page.py" for k in range(2)},
    **{("docs/results.md", k): "tests/inference/test_exports.py" for k in (5, 6)},
}
NEEDS_DATA = "photographs and annotations that are downloaded first"
HOURS = "trains for minutes or hours"
NOT_RUN = {
    ("docs/finetune.md", 0): NEEDS_DATA,
    ("docs/finetune.md", 2): NEEDS_DATA,
    ("docs/finetune.md", 3): HOURS,
    ("docs/finetune.md", 4): HOURS,
    ("docs/finetune.md", 5): HOURS,
    ("docs/finetune.md", 6): HOURS,
    ("docs/finetune.md", 7): HOURS,
    ("docs/finetune.md", 8): HOURS,
    ("docs/howto.md", 10): HOURS,
    ("docs/mmdetection.md", 0): "a checkpoint of 190 MB",
    ("docs/mmdetection.md", 1): "a checkpoint of the reader's own",
    ("docs/overfit.md", 0): HOURS,
    ("docs/shapes.md", 0): "installs; `demo` and `verify` have tests of their own",
    ("docs/shapes.md", 1): HOURS,
    ("docs/sources.md", 0): "asks the network",
    ("docs/sources.md", 1): HOURS,
    ("docs/speed.md", 1): "times operations for minutes, beside libraries that are installed first",
    ("docs/training.md", 0): HOURS,
    ("docs/training.md", 1): HOURS,
    ("docs/training.md", 2): HOURS,
    ("docs/training.md", 3): "several machines",
    ("docs/training.md", 4): NEEDS_DATA,
    ("docs/verify.md", 0): NEEDS_DATA,
}


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: str, *languages: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in found
        if match[1] in languages
    ]


def commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_every_block_is_run_or_it_is_said_why_not() -> None:
    there = {(page, k) for page in PAGES for k, _ in enumerate(blocks(page, "python", "sh"))}
    left = set(ELSEWHERE) | set(NOT_RUN)
    assert {(page, k) for page, k in there if page not in TOGETHER} <= left <= there
    assert not set(ELSEWHERE) & set(NOT_RUN)
    assert all((ROOT / test).is_file() for test in ELSEWHERE.values())
    assert len(NOT_RUN) == 23  # one more is a decision, not an oversight


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("page", TOGETHER)
def test_a_page_does_what_it_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks(page, "python", "sh")):
        if (page, number) in {**NOT_RUN, **ELSEWHERE}:
            continue
        if block.language == "python":
            padded = "\n" * (block.line - 1) + block.text  # so that an error names the line of the page
            exec(compile(padded, str(ROOT / page), "exec"), names)
            continue
        for command in commands(block.text):
            program, *rest = shlex.split(command)
            assert program == "resnest-zoo", command
            assert main(rest) == 0, command


def written_commands() -> list[str]:
    """The lines of all pages that call this package, without those of shell functions."""
    found = [
        command
        for page in PAGES
        for block in blocks(page, "sh", "")
        for command in commands(block.text)
        if re.match(r"(torchrun |python |resnest-zoo )", command) and "$" not in command
    ]
    return [command for command in dict.fromkeys(found) if not re.match(r"python (-c|-|voc_)", command)]


@pytest.mark.parametrize("command", written_commands())
def test_a_command_is_understood(command: str) -> None:
    """Its options and keys exist; what they do is tested where they are defined."""
    words = shlex.split(re.sub(r"^torchrun --nproc-per-node \d+ |^python ", "", command), comments=True)
    if words[0] == "-m" and words[1].startswith("benchmarks."):
        assert importlib.util.find_spec(words[1])
        return
    words = words[1:] if words[0] == "-m" else words
    program, *rest = words
    if program == "train_net.py":
        args = train_net._parser().parse_args(rest)
        name = args.config_file
        weights = dict(zip(args.overrides[::2], args.overrides[1::2], strict=True)).get("MODEL.WEIGHTS")
    else:
        assert program in ("resnest-zoo", "resnest_zoo")
        args = _parser().parse_args(rest)
        name, weights = getattr(args, "model", None), getattr(args, "weights", None)
    for known in (weights, getattr(args, "name", None)):
        assert known is None or "/best." in known or registry.info(known)
    if name is not None:
        own = name == "my.yaml" or "best.safetensors" in name or name.endswith((".onnx", ".pt2"))
        config = find_config("mask_rcnn_resnest50" if own else name)
        config.override(getattr(args, "overrides", []))
