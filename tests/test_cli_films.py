"""Films in `predict`: every frame in the record and in the annotated film, whatever stops or breaks it."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import resnest_zoo.api
from resnest_zoo.cli import main
from resnest_zoo.data.video import Video
from tests.films import CONSTANT, VARIABLE, sound_of, times_of, write_film
from tests.predict_stub import StubPredictor
from tests.servers import FileServer
from tests.test_cli import Capture
from tests.test_cli_predict import validate_document

pytest.importorskip("av")

REAL = resnest_zoo.api.Predictor
MODEL = "faster_rcnn_resnest50"  # whose name counts alone


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resnest_zoo.api, "Predictor", StubPredictor)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(*words: str | Path) -> int:
    return main(["predict", *map(str, words), "-m", MODEL, "-o", "found"])


def document() -> Any:
    return json.loads(Path("found/predictions.json").read_text())


def test_every_frame_is_recorded_and_drawn_with_the_sound(capsys: Capture) -> None:
    source = write_film(Path("a.mov"), VARIABLE, size=(63, 48), rotation=90, sound="aac")
    Image.new("RGB", (8, 8)).save("b.png")
    assert predict("a.mov", "b.png") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == len(VARIABLE) + 1
    assert lines[1].startswith(f"a.mov, {VARIABLE[1] / 1000:.2f} s: 1 ball, 1 grass")
    assert shown.err == ""
    found = document()
    rows = found["images"][:-1]
    assert [row["frame"] for row in rows] == list(range(len(VARIABLE)))
    assert [row["time"] for row in rows] == pytest.approx([t / 1000 for t in VARIABLE])
    assert {(row["width"], row["height"], row["file_name"]) for row in rows} == {(48, 63, "a.mov")}
    assert [row["id"] for row in rows] == list(range(rows[0]["id"], rows[0]["id"] + len(rows)))
    assert {row["image_id"] for row in found["predictions"]} == {row["id"] for row in found["images"]}
    drawing = Path("found/a.mp4")
    assert found["videos"] == [
        {"id": rows[0]["id"], "file_name": "a.mov", "frames": len(VARIABLE), "drawing": drawing.name}
    ]
    assert times_of(drawing) == [Fraction(time, 1000) for time in VARIABLE]
    assert sound_of(drawing) == sound_of(source)
    plain, drawn = (next(iter(Video(path))).image.float() for path in (source, drawing))
    assert drawn.shape[1:] == (64, 48)
    assert (plain - drawn[:, :63]).abs().mean() > 5  # something is drawn in
    assert len(list(Path("found").glob("a_*_panoptic.png"))) == len(VARIABLE)


def test_the_document_of_a_film_is_as_its_schema_says() -> None:
    write_film(Path("a.mp4"), CONSTANT[:2])
    assert predict("a.mp4") == 0
    validate_document(document())


def test_without_output_a_line_for_each_frame_is_printed(capsys: Capture) -> None:
    write_film(Path("a.mp4"), CONSTANT)
    assert main(["predict", "a.mp4", "-m", MODEL, "--every", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["a.mp4, 0.00 s", "a.mp4, 0.28 s", "a.mp4, 0.56 s"]


def test_sound_that_plays_nowhere_in_mp4_is_kept_in_mkv() -> None:
    source = write_film(Path("a.mkv"), CONSTANT, sound="wavpack")
    assert predict("a.mkv") == 0
    assert document()["videos"][0]["drawing"] == "a.mkv"
    assert [data for _, data in sound_of(Path("found/a.mkv"))] == [data for _, data in sound_of(source)]


def test_a_run_that_was_stopped_goes_on_and_ends_as_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_film(Path("a.mp4"), CONSTANT[:6])
    call, calls = StubPredictor.__call__, []

    def stop(self: StubPredictor, picture: Any) -> Any:
        calls.append(picture)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return call(self, picture)

    with monkeypatch.context() as patch:
        patch.setattr(StubPredictor, "__call__", stop)
        assert predict("a.mp4") == 130
    assert [row["frame"] for row in document()["images"]] == [0, 1, 2]
    assert not list(Path("found").glob("*.mp4"))
    assert not list(Path("found").glob(".*.tmp"))
    capsys.readouterr()
    assert predict("a.mp4", "--resume") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    resumed = document()
    assert len(times_of(Path("found/a.mp4"))) == 6
    Path("found").rename("first")
    assert predict("a.mp4") == 0
    assert resumed == document()
    capsys.readouterr()
    assert predict("a.mp4", "--resume") == 0
    assert capsys.readouterr().err == "1 of 1 pictures are done\n"


def test_a_film_that_is_cut_off_is_a_line_and_the_rest_is_done(capsys: Capture) -> None:
    path = write_film(Path("a.mkv"), [100 * k for k in range(40)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    Path("text.mp4").write_text("no film")
    write_film(Path("b.mp4"), CONSTANT[:3])
    assert predict("a.mkv", "text.mp4", "gone.mp4", "b.mp4") == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "error: gone.mp4: no such file"
    assert told[1].startswith("error: a.mkv: ends after ")
    assert told[2].startswith("error: text.mp4: cannot be opened as a film: ")
    assert len(told) == 3
    assert [row["file_name"] for row in document()["videos"]] == ["a.mkv", "b.mp4"]
    assert len(times_of(Path("found/a.mp4"))) == document()["videos"][0]["frames"]


def test_a_frame_too_large_for_the_memory_stays_in_the_film_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_film(Path("a.mp4"), CONSTANT[:5])
    call, calls = StubPredictor.__call__, []

    def fail_at_third(self: StubPredictor, picture: Any) -> Any:
        calls.append(picture)
        if len(calls) == 3:
            raise MemoryError
        return call(self, picture)

    monkeypatch.setattr(StubPredictor, "__call__", fail_at_third)
    assert predict("a.mp4") == 1
    assert capsys.readouterr().err.startswith("error: a.mp4, picture 3: not enough memory")
    assert [row["frame"] for row in document()["images"]] == [0, 1, 3, 4]
    assert len(times_of(Path("found/a.mp4"))) == 5


def test_ctrl_c_is_the_end_of_a_cameras_film(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(
        "resnest_zoo.data.video._CAMERAS", {"linux": ("lavfi", "testsrc=size=32x24:rate=10{}")}
    )
    monkeypatch.setattr("sys.platform", "linux")
    call, calls = StubPredictor.__call__, []

    def stop(self: StubPredictor, picture: Any) -> Any:
        calls.append(picture)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return call(self, picture)

    monkeypatch.setattr(StubPredictor, "__call__", stop)
    assert predict("camera:") == 0
    assert [float(time) for time in times_of(Path("found/camera_.mp4"))] == pytest.approx(
        [k / 10 for k in range(5)], abs=1e-4
    )
    assert document()["videos"][0]["file_name"] == "camera:"


def test_a_film_comes_from_an_address(server: FileServer, capsys: Capture) -> None:
    assert server.folder is not None
    write_film(server.folder / "a b.mp4", CONSTANT[:3])
    assert predict(f"{server.url}/a%20b.mp4", f"{server.url}/gone.mp4") == 1
    told = capsys.readouterr().err.splitlines()
    assert told[1:] == [
        f"{server.url}/gone.mp4: is fetched",
        f"error: {server.url}/gone.mp4: cannot be read: HTTP 404 Not Found",
    ]
    assert len(times_of(Path("found/a b.mp4"))) == 3
    assert {row["file_name"] for row in document()["images"]} == {f"{server.url}/a%20b.mp4"}


def test_a_film_is_never_overwritten(capsys: Capture) -> None:
    before = write_film(Path("a.mp4"), CONSTANT[:3]).read_bytes()
    assert main(["predict", "a.mp4", "-m", MODEL, "-o", "."]) == 1
    assert "would overwrite a.mp4" in capsys.readouterr().err
    assert Path("a.mp4").read_bytes() == before


def test_each_nth_picture_of_an_animation_is_taken() -> None:
    frames = [Image.fromarray(np.full((6, 8, 3), 40 * k, np.uint8)) for k in range(5)]
    frames[0].save("a.png", save_all=True, append_images=frames[1:])
    assert predict("a.png", "--frames", "all", "--every", "2") == 0
    assert [row["frame"] for row in document()["images"]] == [0, 2, 4]


PAGE = (Path(__file__).parents[1] / "docs" / "predict.md").read_text(encoding="utf-8")


def test_the_program_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(resnest_zoo.api, "Predictor", REAL)
    write_film(Path("street.mp4"), VARIABLE[:6], sound="aac")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "VideoWriter" in block)
    names: dict[str, Any] = {}
    exec(compile(block, "predict.md", "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert times_of(Path("found.mp4")) == times_of(Path("street.mp4"))
    assert len(names["counts"]) == 2
