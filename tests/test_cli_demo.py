"""`resnest-zoo demo`: the whole chain without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnest_zoo.cli import main


@pytest.mark.usefixtures("no_sockets")
def test_demo_prints_a_table_and_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sheet.png"
    assert main(["demo", "--count", "3", "--output", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 pictures drawn by seed 2")
    assert lines[1].split() == ["class", "there", "found", "box", "AP", "mask", "AP"]
    assert [line.split()[0] for line in lines[2:9]] == [
        *("circle", "square", "triangle", "star", "ring", "cross", "all")
    ]
    assert 20 < float(lines[8].split()[1]) <= 100
    assert lines[9].startswith("panoptic quality ")
    assert str(file) in lines[-1]
    with Image.open(file) as sheet:
        assert sheet.size == (3 * 276 + 2 * 6, 3 * 207 + 2 * 6)  # as wide as a page
        pixels = np.asarray(sheet)
    for gap in (pixels[:, 276:282], pixels[:, 558:564], pixels[207:213], pixels[420:426]):
        assert (gap == 255).all()  # an even grid


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_wrong_count_is_wrong_usage(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--count", count])
    assert caught.value.code == 2
    assert "--count" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--count", "1", "--output", str(tmp_path / "no" / "sheet.png")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_a_folder_cannot_be_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: --output {tmp_path}: is a folder; name the picture")
