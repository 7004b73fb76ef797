"""Runs in one folder: the second is refused while the first lives, and a dead one blocks nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnest_zoo.cli import main
from resnest_zoo.cli import train_net as script
from resnest_zoo.cli.common import sole_run
from resnest_zoo.distributed import World
from resnest_zoo.errors import ConfigError, LockedError
from tests.test_cli import Capture, one_error

ROOT = Path(__file__).parent.parent
_HOLD = """
import sys
from pathlib import Path
from resnest_zoo.cli.common import sole_run
with sole_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_a_folder_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    with sole_run(output):
        with pytest.raises(LockedError, match=rf"process {os.getpid()} .* is at work here"), sole_run(output):
            pass
        with sole_run(tmp_path / "other"):
            pass
    with sole_run(output):
        pass


def test_a_dead_run_blocks_nobody(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"process {process.pid} "), sole_run(tmp_path):
            pass
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    with sole_run(tmp_path):
        pass


def test_a_run_that_wrote_nothing_leaves_no_folder(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with sole_run(output):
        pass
    assert not output.exists() or sys.platform == "win32"
    with sole_run(output):
        (output / "result").touch()
    assert (output / "result").exists()
    (tmp_path / "own").mkdir()
    with sole_run(tmp_path / "own"):
        pass
    assert (tmp_path / "own").is_dir()


class Member(World):
    """One of two processes, who hears `told` from the first."""

    told: Any = None

    def broadcast(self, value: Any) -> Any:
        return value if self.is_main else self.told


def test_all_processes_of_a_run_are_refused_together(tmp_path: Path) -> None:
    member = Member(rank=1, size=2)
    with sole_run(tmp_path, Member(rank=0, size=2)), sole_run(tmp_path, member):
        pass  # one run: the second process takes no lock
    object.__setattr__(member, "told", LockedError("another is at work"))
    with pytest.raises(LockedError, match="another is at work"), sole_run(tmp_path, member):
        pass


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, kind in ((file, "is a file"), (tmp_path / "found.PNG", "is the name of a file")):
        with (
            pytest.raises(ConfigError, match=f"{path.name}: {kind}; .* name a folder"),
            sole_run(path, Member(rank=0, size=2)),
        ):
            pass


def test_commands_leave_a_folder_with_a_living_run_as_it_is(tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out"
    data = [tmp_path / "photo.png", tmp_path / "data.json"]
    Image.new("RGB", (8, 8)).save(data[0])
    data[1].touch()
    model = "mask_rcnn_resnest14_dcn_shapes"
    files = ["--train-json", str(data[1]), "--train-images", str(tmp_path)]
    with sole_run(output):
        before = sorted(output.iterdir())
        (output / ".photo.jpg.0123abcd.tmp").touch()  # of the living run
        assert main(["predict", str(data[0]), "--model", model, "--output", str(output)]) == 1
        assert "is at work here" in one_error(capsys)
        assert main(["train", "--model", model, *files, "--output", str(output)]) == 1
        assert "is at work here" in one_error(capsys)
        assert script.main(["--config-file", model, *files, "OUTPUT_DIR", str(output)]) == 1
        assert "is at work here" in one_error(capsys)
        assert sorted(output.iterdir()) == sorted([*before, output / ".photo.jpg.0123abcd.tmp"])
