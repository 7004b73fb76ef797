from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from resnest_zoo.errors import ConfigError, DataError, ZooError
from resnest_zoo.training.curves import draw_curves
from resnest_zoo.training.recorder import METRICS, Recorder, read_metrics


def record(folder: Path, first: int, last: int, period: int = 2) -> None:
    with Recorder(folder, first, 8, period) as recorder:
        for done in range(first + 1, last + 1):
            times = {"seconds": 2.0, "data_seconds": 0.5}
            recorder.step(done, 0.1 * done, {"loss": float(done), "loss_cls": 1.0, **times})
            if done == 4:
                recorder.evaluation(done, {"bbox/AP": 12.5, "bbox/APl": None})


def test_lines_hold_means_since_the_last_one(tmp_path: Path) -> None:
    record(tmp_path, 0, 5)
    rows = read_metrics(tmp_path / METRICS)
    assert [(r["iteration"], r.get("loss"), r.get("bbox/AP")) for r in rows] == [
        (2, 1.5, None),
        (4, 3.5, None),
        (4, None, 12.5),
    ]
    assert rows[1]["lr"] == pytest.approx(0.4)
    assert rows[1]["memory_mb"] > 1
    assert rows[2]["bbox/APl"] is None


def test_a_resumed_run_replaces_the_lines_of_iterations_it_does_again(tmp_path: Path) -> None:
    record(tmp_path, 0, 8)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"iteration": 9, "lo')  # cut off by a kill
    record(tmp_path, 4, 8)
    assert [r["iteration"] for r in read_metrics(tmp_path / METRICS)] == [2, 4, 4, 6, 8]


def test_a_run_from_the_start_forgets_an_earlier_one(tmp_path: Path) -> None:
    record(tmp_path, 0, 8)
    record(tmp_path, 0, 2)
    assert [r["iteration"] for r in read_metrics(tmp_path / METRICS)] == [2]


def test_without_a_terminal_there_is_a_line_of_text_every_period(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "resnest_zoo"):
        record(tmp_path, 0, 4)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("iteration")]
    assert lines[0].startswith(
        "iteration 2/8  loss 1.5000 (cls 1.0000)  lr 0.2  2.000 s/it, of it data 0.500  "
    )
    assert "eta 0:00:12" in lines[0]
    assert lines[2] == "iteration 4/8  bbox/AP 12.50  bbox/APl none"
    assert capsys.readouterr().err == ""


def test_without_tensorboard_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO, "resnest_zoo"):
        record(tmp_path, 0, 2)
    assert caplog.text.count("pip install 'resnest-zoo[train]'") == 1


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    record(tmp_path, 0, 4)
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    record(tmp_path, 0, 8)
    with Image.open(io.BytesIO(draw_curves(tmp_path))) as picture:
        assert min(picture.size) > 500
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 10


def test_metrics_of_several_sets_are_drawn_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    heights = []
    for row in ({}, {"bbox/AP": 1.0}, {"a/bbox/AP": 1.0, "b/bbox/AP": 2.0}):
        lines = [{"iteration": 1, "loss": 1.0, "lr": 0.1}, {"iteration": 1, **row}]
        (tmp_path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
        with Image.open(io.BytesIO(draw_curves(tmp_path))) as picture:
            heights.append(picture.height)
    assert heights[0] < heights[1] == heights[2]


def test_curves_are_drawn_in_a_format_that_matplotlib_knows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    record(tmp_path, 0, 8)
    assert b"<svg" in draw_curves(tmp_path, "svg")
    with pytest.raises(ConfigError, match=r"png, .*, not in 'bmp'"):
        draw_curves(tmp_path, "bmp")


def test_curves_need_records_and_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no run is recorded there"):
        draw_curves(tmp_path)
    (tmp_path / METRICS).write_text(json.dumps({"iteration": 1, "loss": 1.0, "lr": 0.1}) + "\n")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ZooError, match=r"pip install 'resnest-zoo\[train\]'"):
        draw_curves(tmp_path)
