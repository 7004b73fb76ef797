"""What `predict` takes: patterns, lists, folders of folders, addresses, standard input, all of a file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import resnest_zoo.api
from resnest_zoo.cli import main
from resnest_zoo.cli.inputs import Input, find_inputs
from tests.predict_stub import StubPredictor
from tests.servers import FileServer
from tests.test_cli import Capture, one_error

MODEL = "faster_rcnn_resnest50"  # whose name counts alone


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures in folders, with what macOS and others leave between them."""
    monkeypatch.setattr(resnest_zoo.api, "Predictor", StubPredictor)
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "._a.png", ".hidden.png", "in/c.png", "in/deep/d.PNG", ".git/e.png"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path, "PNG")
    (tmp_path / "tree" / "notes.md").touch()
    return Path("tree")


def found(*words: str | Path, recursive: bool = False) -> list[str]:
    inputs, failed = find_inputs([str(word) for word in words], recursive=recursive)
    assert failed == 0
    return [item.name for item in inputs]


def test_a_folder_is_its_pictures_without_hidden_ones(tree: Path) -> None:
    assert found(tree) == ["tree/a.png", "tree/b.png"]
    assert found(tree, recursive=True) == [
        "tree/a.png",
        "tree/b.png",
        "tree/in/c.png",
        "tree/in/deep/d.PNG",
    ]


def test_a_link_to_a_folder_ends_no_run(tree: Path) -> None:
    (tree / "in" / "loop").symlink_to(tree.absolute())
    assert len(found(tree, recursive=True)) == 4


def test_folders_in_a_folder_without_pictures_are_told(tree: Path, capsys: Capture) -> None:
    Path("outer/inner").mkdir(parents=True)
    assert find_inputs(["outer", "outer/inner"], recursive=False) == ([], 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(
        "outer: no pictures in this folder; recursive=True (--recursive) looks into the folders in it"
    )
    assert lines[1].endswith("inner: no pictures in this folder")


def test_a_pattern_is_what_it_matches_unless_a_file_is_called_so(tree: Path, capsys: Capture) -> None:
    assert found("tree/*.png") == ["tree/a.png", "tree/b.png"]
    assert found("tree/**/*.[pP]*") == found(tree, recursive=True)
    (tree / "[1].png").write_bytes((tree / "a.png").read_bytes())
    assert found("tree/[1].png") == ["tree/[1].png"]
    assert find_inputs(["tree/*.jpg"], recursive=False) == ([], 1)
    assert one_error(capsys) == "error: tree/*.jpg: no file matches\n"


def test_a_list_names_pictures_beside_itself(tree: Path, capsys: Capture) -> None:
    lines = ["", "# comment", "../tree/a.png  ", str((tree / "b.png").absolute()), "http://host/x.png"]
    Path("lists").mkdir()
    Path("lists/some.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    assert found("lists/some.txt") == ["lists/../tree/a.png", lines[3], lines[4]]
    Path("lists/bad.txt").write_text("gone.png\n")
    Path("lists/empty.txt").write_text("#\n")
    Path("lists/binary.txt").write_bytes(b"\xff\xfe\x00")
    words = ["lists/bad.txt", "lists/empty.txt", "lists/binary.txt"]
    assert find_inputs(words, recursive=False) == ([], 3)
    told = capsys.readouterr().err
    for part in (
        "lists/gone.png: no such file",
        "empty.txt: the list names no",
        "binary.txt: the list cannot",
    ):
        assert part in told


def test_an_input_that_is_named_twice_is_one(tree: Path) -> None:
    assert found("tree/a.png", tree, "tree/*.png") == ["tree/a.png", "tree/b.png"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/some/shot.jpg?size=9", "shot.jpg"),
        ("https://host/a%2F..%2Fb%20c.png", "b c.png"),
        ("https://host/%2e%2e", "address"),
        ("https://user:secret@host", "host"),
    ],
)
def test_drawings_of_addresses_have_names_of_files(url: str, name: str) -> None:
    assert Input(url).file == Path(name)
    assert "secret" not in Input(url).key


def predict(*argv: str | Path) -> Any:
    code = main(["predict", *map(str, argv), "-m", MODEL, "-o", "found"])
    return code, json.loads(Path("found/predictions.json").read_text())


def test_pictures_come_from_addresses(tree: Path, server: FileServer, capsys: Capture) -> None:
    assert server.folder is not None
    (server.folder / "a.png").write_bytes((tree / "a.png").read_bytes())
    url = f"{server.url.replace('://', '://user:secret@')}/a.png"
    code, document = predict(url, f"{server.url}/gone.png", tree / "b.png")
    assert code == 1
    shown = capsys.readouterr()
    assert [row["file_name"] for row in document["images"]] == [f"{server.url}/a.png", "tree/b.png"]
    assert shown.err == f"error: {server.url}/gone.png: cannot be read: HTTP 404 Not Found\n"
    assert (Path("found") / "a.jpg").exists()
    assert "secret" not in shown.out + shown.err + json.dumps(document)
    assert main(["predict", url, "-m", MODEL, "-o", "found", "--resume"]) == 0
    assert capsys.readouterr().err == "1 of 1 pictures are done\n"


def test_a_picture_comes_through_standard_input(tree: Path, monkeypatch: Any, capsys: Capture) -> None:
    content = (tree / "a.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, document = predict("-")
    assert code == 0
    assert document["images"][0]["file_name"] == "-"
    assert Path("found/stdin.jpg").exists()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert main(["predict", "-", "-m", MODEL]) == 1
    assert "standard input is a terminal" in capsys.readouterr().err


def animation(path: Path, count: int) -> None:
    frames = [Image.fromarray(np.full((6, 8, 3), 40 * k, np.uint8)) for k in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def test_of_an_animation_the_first_picture_counts_or_all(tree: Path, capsys: Capture) -> None:
    animation(tree / "moving.png", 4)
    animation(tree / "still.png", 1)
    code, document = predict(tree / "moving.png", tree / "still.png", "--frames", "all")
    assert code == 0
    lines = [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == [*(f"tree/moving.png, picture {k}" for k in (1, 2, 3, 4)), "tree/still.png"]
    rows = document["images"]
    assert [row.get("frame") for row in rows] == [0, 1, 2, 3, None]
    assert {row["file_name"] for row in rows[:4]} == {"tree/moving.png"}
    ids = [row["id"] for row in rows]
    assert ids[:4] == list(range(ids[0], ids[0] + 4))
    assert len(set(ids)) == 5
    drawings = {path.name for path in Path("found").glob("*.jpg")}
    assert drawings == {"still.jpg", *(f"moving_{k:06d}.jpg" for k in range(4))}


def test_frames_of_a_run_that_ended_early_are_taken_up(tree: Path, monkeypatch: Any, capsys: Capture) -> None:
    animation(tree / "moving.png", 4)
    monkeypatch.chdir("tree")
    call, calls = StubPredictor.__call__, []

    def interrupt(self: StubPredictor, picture: Any) -> Any:
        calls.append(picture)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return call(self, picture)

    line = ["predict", "moving.png", "in/c.png", "-m", MODEL, "-o", "found", "--frames", "all"]
    with monkeypatch.context() as patch:
        patch.setattr(StubPredictor, "__call__", interrupt)
        assert main(line) == 130
    assert main([*line, "--resume"]) == 0
    whole = json.loads(Path("found/predictions.json").read_text())
    Path("fresh").mkdir()
    assert main([*line[:6], "fresh", "--frames", "all"]) == 0
    assert json.loads(Path("fresh/predictions.json").read_text()) == whole


def test_a_damaged_picture_behind_others_is_a_line(tree: Path, capsys: Capture) -> None:
    animation(tree / "moving.png", 3)
    content = (tree / "moving.png").read_bytes()
    (tree / "moving.png").write_bytes(content[: content.rindex(b"fdAT") + 6])
    code, document = predict(tree / "moving.png", tree / "a.png", "--frames", "all")
    assert code == 1
    assert capsys.readouterr().err.startswith("error: tree/moving.png, picture 3: cannot be read: ")
    assert [row.get("frame") for row in document["images"]] == [0, 1, None]
