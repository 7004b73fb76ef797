"""The command `completion`: scripts that a shell understands, and what they propose."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnest_zoo.cli import main
from resnest_zoo.registry import PUBLISHED, list_models
from tests.test_cli import Capture, one_error

shtab = pytest.importorskip("shtab")

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def script(shell: str, capsys: Capture) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def proposals(program: str, folder: Path, *words: str) -> list[str]:
    """What bash proposes for the last word."""
    line = f"""
{program}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_resnest_zoo
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", line, "bash", "resnest-zoo", *words], cwd=folder, capture_output=True, text=True
    )
    return done.stdout.split()


@needs_bash
def test_bash_proposes_commands_options_models_and_paths(tmp_path: Path, capsys: Capture) -> None:
    program = script("bash", capsys)
    (tmp_path / "shots").mkdir()
    (tmp_path / "shot.png").touch()
    assert proposals(program, tmp_path, "pre") == ["predict", "predict-dataset"]
    assert proposals(program, tmp_path, "predict", "--score-t") == ["--score-threshold"]
    wanted = [name for name in list_models() if name.startswith("panoptic_")]
    for words in (("predict", "--model"), ("train", "-m"), ("info",), ("download",)):
        assert set(proposals(program, tmp_path, *words, "panoptic_")) == set(wanted), words
    assert set(proposals(program, tmp_path, "predict", "sho")) == {"shots", "shot.png"}
    assert proposals(program, tmp_path, "predict", "--output", "sho") == ["shots"]
    assert proposals(program, tmp_path, "predict", "--frames", "a") == ["all"]
    assert proposals(program, tmp_path, "completion", "f") == ["fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_of_all_shells_know_commands_and_models(shell: str, capsys: Capture) -> None:
    program = script(shell, capsys)
    for word in (*PUBLISHED, "predict", "score-threshold", "resume"):
        assert word in program
    if shutil.which(shell) is not None:
        assert subprocess.run([shell, "-n"], input=program.encode()).returncode == 0


def test_without_shtab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "shtab is not installed: pip install 'resnest-zoo[completion]'" in one_error(capsys)
