from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from resnest_zoo.hub.staging import write_staged


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_file_never_takes_the_place_of_a_pipe_or_device(tmp_path: Path) -> None:
    """As root, `--json /dev/null` would else leave a file there."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for target in (pipe, link):
        with pytest.raises(OSError, match="is no ordinary file") as caught:
            write_staged(target, b"x")
        assert caught.value.filename == str(target)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_a_link_that_leads_nowhere_and_a_file_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"old")
    for name in ("link", "file"):
        write_staged(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
