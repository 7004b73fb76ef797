"""The command `resnest-zoo`: what it prints, writes and returns."""

from __future__ import annotations

import io
import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image
from pycocotools import coco

import resnest_zoo
from resnest_zoo.categories import COCO, COCO_PANOPTIC
from resnest_zoo.cli import main
from resnest_zoo.hub import cache_dir
from resnest_zoo.inference import PicturePredictor
from resnest_zoo.registry import PUBLISHED, Artifact, Entry, Reported, info, register
from tests.servers import FileServer, Reply

ROOT = Path(__file__).parents[1]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def mirror(tiny: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    server.folder = tiny
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", server.url)
    return server


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small photographs, a text and a folder."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(skimage.data.coffee()).resize((150, 100)).save(folder / "coffee.jpg")
    Image.fromarray(skimage.data.astronaut()).resize((96, 96)).save(folder / "astronaut.PNG")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "more").mkdir()
    return folder


def usage_error(*argv: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def one_error(capsys: Capture) -> str:
    """The only line on stderr, which is an error without a traceback."""
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


# --- list ----------------------------------------------------------------------------------------------


def test_list_shows_the_21_with_their_numbers(capsys: Capture) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = "name method backbone box AP mask AP PQ params known SHA-256"
    assert " ".join(lines[0].split()) == header
    assert [line.split()[0] for line in lines[1:22]] == list(PUBLISHED)
    assert lines[22:] == ["", "AP and PQ as reported on COCO val2017, in percent."]
    (row,) = [line for line in lines if line.startswith("faster_rcnn_resnest50 ")]
    assert row.split() == [
        "faster_rcnn_resnest50",
        "Faster",
        "R-CNN",
        "ResNeSt-50",
        "42.33",
        "45",
        "M",
        "ad123c0b…",
    ]
    (row,) = [line for line in lines if line.startswith("faster_rcnn_resnest50_dcn ")]
    assert row.endswith("  none")


def test_list_takes_a_pattern_and_a_task(capsys: Capture) -> None:
    assert main(["list", "mask_rcnn_*"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:] if "resne" in line]
    assert names == [name for name in PUBLISHED if name.startswith("mask_rcnn_")]
    assert main(["list", "--task", "panoptic segmentation", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["panoptic_resnest200_3x"]
    assert main(["list", "--backbones", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 26


def test_a_pattern_that_matches_nothing_is_an_error(capsys: Capture) -> None:
    assert main(["list", "yolo*"]) == 1
    assert "no model matches 'yolo*'" in one_error(capsys)


@pytest.mark.usefixtures("own_registry")
def test_list_shows_no_number_of_another_data_set(capsys: Capture) -> None:
    reported = (Reported("Roads", "test", False, 77.7), Reported("COCO", "val2017", True, 66.6))
    register(
        Entry(
            "own",
            "object detection",
            Artifact("own.pth", sha256="a" * 64),
            config="own.yaml",
            reported=reported,
        )
    )
    assert main(["list", "own"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["own", "object", "detection", "full"]
    assert main(["info", "own"]) == 0
    out = capsys.readouterr().out
    assert "Roads test: box AP 77.70\n" in out
    assert "COCO val2017: box AP 66.60, with test-time augmentation\n" in out


# --- info ----------------------------------------------------------------------------------------------


def test_info_by_alias_shows_what_is_known(capsys: Capture) -> None:
    assert main(["info", "mask_cascade_rcnn_ResNeSt_200_FPN_dcn_syncBN_all_tricks_3x"]) == 0
    out = capsys.readouterr().out
    entry = info("mask_cascade_resnest200_dcn_3x")
    for text in (
        entry.name,
        entry.artifact.filename,
        *entry.artifact.urls,
        *map(str, entry.reported),
        *entry.aliases,
    ):
        assert text in out, text
    assert f"{entry.parameters:,}" in out


def test_info_says_how_much_of_the_hash_is_published(capsys: Capture) -> None:
    lines = {}
    for name in ("faster_rcnn_resnest50", "faster_rcnn_resnest50_dcn"):
        main(["info", name])
        (lines[name],) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("SHA-256")]
    assert lines["faster_rcnn_resnest50"].endswith(
        "begins with ad123c0b, which is all that is published of it"
    )
    assert lines["faster_rcnn_resnest50_dcn"].endswith("none published: the bytes cannot be verified")


@pytest.mark.usefixtures("tiny")
def test_info_shows_a_full_hash_and_a_size(capsys: Capture) -> None:
    artifact = info("tiny_mask").artifact
    assert main(["info", "tiny_mask"]) == 0
    out = capsys.readouterr().out
    assert f"SHA-256      {artifact.sha256}\n" in out
    assert f"size         {artifact.size:,} bytes\n" in out


@pytest.mark.parametrize("name", [*PUBLISHED[:2], "panoptic_resnest200_3x", "resnet50_msra"])
def test_info_as_json_holds_the_record(name: str, capsys: Capture) -> None:
    assert main(["info", name, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    entry = info(name)
    assert record["name"] == name
    assert record["artifact"]["filename"] == entry.artifact.filename
    assert record["artifact"]["urls"] == list(entry.artifact.urls)


@pytest.mark.usefixtures("own_registry")
def test_info_of_a_local_file_shows_its_path(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "own.pth"
    register(Entry("own", "object detection", Artifact("own.pth", path=path), config="own.yaml"))
    assert main(["info", "own"]) == 0
    assert f"file         {path}\n" in capsys.readouterr().out
    assert main(["info", "own", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["artifact"]["path"] == str(path)


def test_an_unknown_name_is_one_line_with_a_suggestion(capsys: Capture) -> None:
    assert main(["info", "faster_rcnn_resnst50"]) == 1
    assert "Did you mean 'faster_rcnn_resnest50'" in one_error(capsys)


# --- download ------------------------------------------------------------------------------------------


def test_download_prints_where_the_verified_files_are(mirror: FileServer, capsys: Capture) -> None:
    assert main(["download", "tiny_mask", "tiny_detection"]) == 0
    paths = [cache_dir() / info(name).artifact.filename for name in ("tiny_mask", "tiny_detection")]
    expected = [f"tiny_mask  {paths[0]}", f"tiny_detection  {paths[1]}"]
    assert capsys.readouterr().out.splitlines() == expected
    assert all(path.is_file() for path in paths)
    assert len(mirror.paths) == 2


def test_a_failed_download_is_reported_and_the_others_continue(mirror: FileServer, capsys: Capture) -> None:
    mirror.replies[f"/{info('tiny_mask').artifact.filename}"] = Reply(status=503)
    assert main(["download", "tiny_mask", "tiny_detection"]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("error: ") == 1
    assert "HTTP 503" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out.startswith("tiny_detection  ")


def test_download_all_means_every_detector_and_no_backbone(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr("resnest_zoo.hub.fetch", lambda artifact, **_: fetched.append(artifact.filename))
    assert main(["download", "--all"]) == 0
    assert fetched == [info(name).artifact.filename for name in resnest_zoo.list_models()]
    assert len(fetched) == 25


def test_download_of_an_unknown_name_downloads_nothing(mirror: FileServer, capsys: Capture) -> None:
    assert main(["download", "tiny_mask", "tiny_msk"]) == 1
    assert "Did you mean 'tiny_mask'" in one_error(capsys)
    assert mirror.paths == []


def test_download_wants_names_or_all(capsys: Capture) -> None:
    usage_error("download")
    assert "NAME --all is required" in capsys.readouterr().err
    usage_error("download", "faster_rcnn_resnet50", "--all")
    assert "not allowed with" in capsys.readouterr().err


# --- predict: what it finds ----------------------------------------------------------------------------


def predict(*argv: str | Path, model: str = "tiny_mask") -> int:
    return main(["predict", *map(str, argv), "--model", model, "--device", "cpu"])


def test_predict_finds_what_the_model_finds(mirror: FileServer, photos: Path, capsys: Capture) -> None:
    assert predict(photos / "coffee.jpg", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert mirror.paths == [f"/{info('tiny_mask').artifact.filename}"]
    assert document["model"] == "tiny_mask"
    assert document["score_threshold"] == 0.5
    file_name = str(photos / "coffee.jpg")
    assert document["images"] == [{"id": 1, "file_name": file_name, "width": 150, "height": 100}]
    expected = resnest_zoo.Predictor("tiny_mask", device="cpu")(photos / "coffee.jpg")
    assert len(expected) > 0
    assert document["predictions"] == expected.to_coco(1)
    assert document["categories"][:2] == [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    assert "panoptic" not in document


def test_a_second_run_makes_no_request(
    mirror: FileServer, photos: Path, request: pytest.FixtureRequest
) -> None:
    assert predict(photos / "coffee.jpg") == 0
    request.getfixturevalue("no_sockets")
    assert predict(photos / "coffee.jpg") == 0
    assert len(mirror.paths) == 1


@pytest.mark.usefixtures("mirror")
def test_a_folder_means_its_pictures_in_order(photos: Path, capsys: Capture) -> None:
    assert predict(photos) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(photos / "astronaut.PNG"),
        str(photos / "coffee.jpg"),
    ]
    assert shown.err == ""  # no bar without a terminal
    names = resnest_zoo.Predictor("tiny_mask", device="cpu")(photos / "coffee.jpg").instances.names
    counted = dict(reversed(part.split(" ", 1)) for part in lines[1].partition(": ")[2].split(", "))
    assert counted == {name: str(names.count(name)) for name in set(names)}


@pytest.mark.usefixtures("mirror")
def test_finding_nothing_is_said(photos: Path, capsys: Capture) -> None:
    assert predict(photos / "coffee.jpg", "--score-threshold", "1") == 0
    assert capsys.readouterr().out == f"{photos / 'coffee.jpg'}: nothing found\n"


@pytest.mark.usefixtures("mirror")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_predictions_load_through_pycocotools(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for name, stem in (("coffee.jpg", "000000000139"), ("astronaut.PNG", "000000000285")):
        (tmp_path / f"{stem}{Path(name).suffix}").write_bytes((photos / name).read_bytes())
    assert predict(tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in document["images"]] == [139, 285]
    assert {row["image_id"] for row in document["predictions"]} == {139, 285}
    truth = tmp_path / "truth.json"
    truth.write_text(
        json.dumps({key: document[key] for key in ("images", "categories")} | {"annotations": []})
    )
    loaded = coco.COCO(str(truth)).loadRes(document["predictions"])
    annotations = loaded.loadAnns(loaded.getAnnIds(imgIds=[139]))
    assert len(annotations) == len([row for row in document["predictions"] if row["image_id"] == 139])
    assert loaded.annToMask(annotations[0]).shape == (100, 150)
    assert {row["category_id"] for row in annotations} <= set(COCO.thing_ids)


@pytest.mark.usefixtures("mirror")
def test_pictures_are_counted_where_names_are_no_distinct_numbers(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = (photos / "coffee.jpg").read_bytes()
    for names in (["7.jpg", "a.jpg"], ["7.jpg", "007.jpg"]):
        for name in names:
            (tmp_path / name).write_bytes(data)
        assert predict(*(tmp_path / name for name in names), "--json") == 0
        assert [row["id"] for row in json.loads(capsys.readouterr().out)["images"]] == [1, 2]


@pytest.mark.usefixtures("mirror")
def test_options_reach_the_model(photos: Path, tiny: Path, capsys: Capture) -> None:
    coffee = photos / "coffee.jpg"
    assert predict(coffee, "--json", "--score-threshold", "0", "--set", "TEST.DETECTIONS_PER_IMAGE", "3") == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 3
    file = tiny / info("tiny_mask").artifact.filename
    names = [f"thing {k}" for k in range(80)]
    assert predict(coffee, "--json", "--weights", file, "--classes", *names) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["categories"][79] == {"id": 80, "name": "thing 79"}
    assert len(document["predictions"]) > 0
    assert predict(coffee, "--json", "--tta", model="tiny_cascade") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny_cascade"


@pytest.mark.usefixtures("mirror")
def test_an_alias_is_recorded_under_the_models_name(photos: Path, capsys: Capture) -> None:
    assert predict(photos / "coffee.jpg", "--json", model="Tiny-Detection") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "tiny_detection"
    assert all("segmentation" not in row for row in document["predictions"])


# --- predict: what it writes ---------------------------------------------------------------------------


@pytest.mark.usefixtures("mirror")
def test_output_holds_drawings_and_the_document(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "new" / "found"
    assert predict(photos, "--output", output, "--json") == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "astronaut.jpg",
        "coffee.jpg",
        "predictions.json",
    ]
    document = json.loads((output / "predictions.json").read_text())
    assert document == json.loads(capsys.readouterr().out)
    with Image.open(output / "coffee.jpg") as drawing:
        assert drawing.format == "JPEG"
        drawn = np.asarray(drawing).astype(int)
    expected = resnest_zoo.Predictor("tiny_mask", device="cpu")(photos / "coffee.jpg").plot()
    assert np.abs(drawn - np.asarray(expected)).mean() < 6  # but for JPEG
    with Image.open(photos / "coffee.jpg") as original:
        assert np.abs(drawn - np.asarray(original)).mean() > 20


@pytest.mark.usefixtures("mirror")
def test_pictures_of_one_name_get_drawings_of_their_own(photos: Path, tmp_path: Path) -> None:
    data = (photos / "coffee.jpg").read_bytes()
    names = ["a/shot.jpg", "b/shot.jpg", "b/Shot.png", "b/shot-2.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    output = tmp_path / "found"
    assert predict(*(tmp_path / name for name in names), "--output", output) == 0
    drawings = [path.name for path in output.glob("*.jpg")]
    assert sorted(drawings) == ["Shot-3.jpg", "shot-2-2.jpg", "shot-2.jpg", "shot.jpg"]


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", ["coffee.jpg", "1_panoptic.png"])
@pytest.mark.parametrize("way", ["folder itself", "symlink"])
def test_no_picture_is_ever_overwritten(
    name: str, way: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    data = (photos / "coffee.jpg").read_bytes()
    (folder / name).write_bytes(data)
    output = folder
    if way == "symlink":
        output = tmp_path / "link"
        output.symlink_to(folder)
    assert predict(folder / name, "--output", output, model="tiny_panoptic") == 1
    assert "would overwrite" in one_error(capsys)
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == data


@pytest.mark.usefixtures("mirror")
def test_a_panoptic_map_decodes_to_its_segments(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    coffee = photos / "coffee.jpg"
    assert (
        predict(coffee, "--output", tmp_path / "found", "--score-threshold", "0", model="tiny_panoptic") == 0
    )
    document = json.loads((tmp_path / "found" / "predictions.json").read_text())
    (annotation,) = document["panoptic"]
    with Image.open(tmp_path / "found" / annotation["file_name"]) as picture:
        ids = np.asarray(picture).astype(int) @ [1, 256, 65536]
    expected = resnest_zoo.Predictor("tiny_panoptic", device="cpu")(coffee).instances.panoptic
    assert expected is not None
    assert np.array_equal(ids, expected.segment_map.numpy())
    assert {row["isthing"] for row in annotation["segments_info"]} == {0, 1}
    for row in annotation["segments_info"]:
        assert (ids == row["id"]).sum() == row["area"]
    stuff = {row["id"]: row["name"] for row in document["stuff_categories"]}
    assert stuff == dict(zip(COCO_PANOPTIC.stuff_ids[1:], COCO_PANOPTIC.stuff[1:], strict=True))
    known = {*stuff, *(row["id"] for row in document["categories"])}
    assert {row["category_id"] for row in annotation["segments_info"]} <= known
    with Image.open(tmp_path / "found" / "coffee.jpg") as drawing:
        assert drawing.size == (150, 100)


@pytest.mark.usefixtures("mirror")
def test_a_picture_too_long_to_draw_is_reported_and_still_counted(tmp_path: Path, capsys: Capture) -> None:
    Image.new("RGB", (65501, 2)).save(tmp_path / "strip.png")
    assert predict(tmp_path / "strip.png", "--output", tmp_path / "found") == 1
    assert "strip.png: not drawn: a JPEG has at most 65500 pixels a side" in capsys.readouterr().err
    document = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert document["images"][0]["width"] == 65501


# --- predict: what can go wrong ------------------------------------------------------------------------


@pytest.mark.usefixtures("mirror")
def test_bad_pictures_are_reported_and_the_others_done(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    coffee = photos / "coffee.jpg"
    output = tmp_path / "found"
    assert predict(bad, coffee, tmp_path / "gone.jpg", "--output", output) == 1
    shown = capsys.readouterr()
    errors = [f"error: {bad}: not a picture in a format Pillow knows, or empty"]
    errors += [f"error: {tmp_path / 'gone.jpg'}: no such file"]
    assert shown.err.splitlines() == errors
    assert shown.out.startswith(f"{coffee}: ")
    document = json.loads((output / "predictions.json").read_text())
    assert [row["id"] for row in document["images"]] == [2]
    assert {row["image_id"] for row in document["predictions"]} == {2}
    assert sorted(path.name for path in output.iterdir()) == ["coffee.jpg", "predictions.json"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "tiny_msk"], "Did you mean 'tiny_mask'"),
        (["--model", "resnet50_msra"], "is an ImageNet backbone"),
        (["--model", "tiny_mask", "--weights", "gone.pth"], "gone.pth: cannot be read"),
        (["--model", "tiny_mask", "--device", "toaster"], "device 'toaster' cannot be used here"),
        (["--model", "tiny_mask", "--set", "TEST.NO", "1"], "TEST.NO"),
        (["--model", "tiny_mask", "--output", "{photos}/notes.txt"], "notes.txt"),
        (["--model", "tiny_mask", "--output", "{photos}/notes.txt/below"], "Not a directory"),
        (["{photos}/more", "--model", "tiny_mask"], "no pictures in this folder"),
    ],
)
def test_what_stops_the_whole_run_is_one_line(
    argv: list[str], message: str, photos: Path, capsys: Capture
) -> None:
    argv = [item.format(photos=photos) for item in argv]
    assert main(["predict", str(photos / "coffee.jpg"), *argv]) == 1
    assert message in one_error(capsys)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["dance"],
        ["predict", "a.jpg"],
        ["predict", "--model", "faster_rcnn_resnet50"],
        ["list", "--task", "knitting"],
        ["predict", "a.jpg", "--model", "m", "--set", "KEY"],
        *(
            ["predict", "a.jpg", "--model", "m", "--score-threshold", text]
            for text in ("-0.1", "1.1", "nan", "much")
        ),
    ],
)
def test_wrong_usage_is_2(argv: list[str], capsys: Capture) -> None:
    usage_error(*argv)
    assert "usage: resnest-zoo" in capsys.readouterr().err


def test_a_wrong_threshold_is_told_with_its_range(capsys: Capture) -> None:
    usage_error("predict", "a.jpg", "--model", "m", "--score-threshold", "much")
    assert "expected a number from 0 to 1, got 'much'" in capsys.readouterr().err


@pytest.mark.usefixtures("mirror")
def test_an_interrupt_is_130_and_leaves_no_half_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PicturePredictor, "__call__", interrupt)
    assert predict(photos, "--output", tmp_path / "found") == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert list((tmp_path / "found").iterdir()) == []


@pytest.mark.usefixtures("mirror")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_file_names_that_are_no_text_can_be_printed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes((photos / "coffee.jpg").read_bytes())
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert predict(path) == 0
    assert predict(path, "--json") == 0
    line, document = raw.getvalue().decode().splitlines()
    assert r"caf\udce9.jpg" in line
    assert json.loads(document)["images"][0]["file_name"] == str(path)


# --- as a process --------------------------------------------------------------------------------------


@pytest.fixture
def zoo_environment(tiny: Path, server: FileServer, tmp_path: Path) -> dict[str, str]:
    """An environment in which another process knows `tiny_mask` and finds its file on the server."""
    entry = info("tiny_mask")
    server.folder = tiny
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text(
        f"tiny_mask:\n  task: {entry.task}\n  config: {entry.config}\n  sha256: '{entry.artifact.sha256}'\n"
        f"  weights: https://weights.invalid/{entry.artifact.filename}\n"
    )
    own = {"RESNEST_ZOO_FILE": str(zoo), "RESNEST_ZOO_MIRROR": server.url, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "PYTHONPATH": str(ROOT)}


def read_terminal(end: int, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    while True:
        ready, _, _ = select.select([end], [], [], 0.1)
        if ready:
            try:
                yield os.read(end, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                return
        elif process.poll() is not None:
            return


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_command_shows_bars_on_a_terminal(
    zoo_environment: dict[str, str], server: FileServer, photos: Path, tmp_path: Path
) -> None:
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))  # rows, columns
    argv = [
        photos,
        photos / "coffee.jpg",
        "--model",
        "tiny_mask",
        "--output",
        tmp_path / "found",
        "--device",
        "cpu",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "resnest_zoo", "predict", *map(str, argv)],
        cwd=tmp_path,
        env=zoo_environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b"".join(read_terminal(ours, process)).decode()
        assert process.stdout is not None
        lines = process.stdout.read().decode().splitlines()
    os.close(ours)
    assert process.returncode == 0, shown
    assert info("tiny_mask").artifact.filename in shown  # the bar of the download
    assert "predict: 100%" in shown
    assert "3/3" in shown
    assert "Traceback" not in shown
    assert len(lines) == 3
    document = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert document["predictions"][-1]["image_id"] == 3
    assert len(server.paths) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close in another way")
def test_a_closed_pipe_ends_in_silence() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.stdin.read(); from resnest_zoo.cli import main; sys.exit(main(['list']))",
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"go")
    assert errors == b""
    assert process.returncode == 0
