"""`resnest-zoo predict`: what it finds, prints and writes, and what can go wrong."""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import coco

import resnest_zoo
from resnest_zoo.categories import COCO, COCO_PANOPTIC
from resnest_zoo.cli import main
from resnest_zoo.cli.drawing import add_drawing, drawing_of
from resnest_zoo.inference import PicturePredictor, Prediction
from resnest_zoo.registry import SHIPPED, info
from tests.servers import FileServer
from tests.test_cli import Capture, one_error

# --- what it finds ----------------------------------------------------------------------------


def predict(*argv: str | Path, model: str = "tiny_mask") -> int:
    return main(["predict", *map(str, argv), "--model", model, "--device", "cpu"])


def test_predict_finds_what_the_model_finds(mirror: FileServer, photos: Path, capsys: Capture) -> None:
    assert predict(photos / "coffee.jpg", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert mirror.paths == [f"/{info('tiny_mask').artifact.filename}"]
    assert document["model"] == "tiny_mask"
    assert document["score_threshold"] == 0.5
    file_name = str(photos / "coffee.jpg")
    (row,) = document["images"]
    assert row == {"id": row["id"], "file_name": file_name, "width": 150, "height": 100}
    expected = resnest_zoo.Predictor("tiny_mask", device="cpu")(photos / "coffee.jpg")
    assert len(expected) > 0
    assert document["predictions"] == expected.to_coco(row["id"])
    assert document["categories"][:2] == [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    assert "panoptic" not in document


def test_a_config_file_and_its_checkpoint_are_a_model(
    mirror: FileServer, photos: Path, capsys: Capture
) -> None:
    entry = info("tiny_mask")
    assert entry.config is not None
    weights = resnest_zoo.fetch("tiny_mask")
    assert predict(photos / "coffee.jpg", "--json", "--weights", weights, model=entry.config) == 0
    by_path = json.loads(capsys.readouterr().out)
    assert predict(photos / "coffee.jpg", "--json") == 0
    by_name = json.loads(capsys.readouterr().out)
    assert by_path["model"] == entry.config
    assert by_path["predictions"] == by_name["predictions"]
    assert predict(photos / "coffee.jpg", model="missing.yaml") == 1
    assert "missing.yaml" in one_error(capsys)


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
def test_options_reach_the_model(photos: Path, tiny: Path, capsys: Capture) -> None:
    coffee = photos / "coffee.jpg"
    assert predict(coffee, "--json", "-t", "0", "--set", "TEST.DETECTIONS_PER_IMAGE=3") == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 3
    file = tiny / info("tiny_mask").artifact.filename
    names = [f"thing {k}" for k in range(80)]
    assert predict(coffee, "--json", "-w", file, "--class-names", ",".join(names)) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["categories"][79] == {"id": 80, "name": "thing 79"}
    assert len(document["predictions"]) > 0
    assert predict(coffee, "--json", "--tta", model="tiny_cascade") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny_cascade"


@pytest.mark.usefixtures("mirror")
def test_keys_and_values_stand_at_the_end_or_behind_set(photos: Path, capsys: Capture) -> None:
    key, most = "TEST.DETECTIONS_PER_IMAGE", {}
    for words in ([key, "3"], ["-s", f"{key}=3"], ["-s", f"{key}=9", key, "3"]):
        line = ["predict", photos / "astronaut.PNG", "-m", "tiny_mask", "-t", "0", "-d", "cpu", "--json"]
        assert main([*map(str, line), str(photos / "coffee.jpg"), *words]) == 0
        document = json.loads(capsys.readouterr().out)
        assert len(document["images"]) == 2
        most[tuple(words)] = len(document["predictions"])
        assert document["overrides"][-2:] == [key, "3"]
    assert set(most.values()) == {6}


@pytest.mark.usefixtures("mirror")
def test_a_picture_may_be_called_like_a_key(photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEST.JPG").write_bytes((photos / "coffee.jpg").read_bytes())
    assert predict("TEST.JPG") == 0


@pytest.mark.usefixtures("mirror")
def test_classes_that_nobody_trained_find_nothing(photos: Path, tiny: Path, capsys: Capture) -> None:
    assert predict(photos / "coffee.jpg", "--class-names", "helmet,vest") == 1
    assert "error: --class-names: 2 classes, but the checkpoint has another number" in capsys.readouterr().err


@pytest.mark.usefixtures("mirror")
def test_classes_and_a_maximum_filter_what_is_found(photos: Path, capsys: Capture) -> None:
    coffee = photos / "coffee.jpg"
    assert predict(coffee, "--json", "-t", "0") == 0
    whole = json.loads(capsys.readouterr().out)
    names = {row["id"]: row["name"] for row in whole["categories"]}
    most = max({row["category_id"] for row in whole["predictions"]}, key=lambda k: names[k])
    assert predict(coffee, "--json", "-t", "0", "--classes", f" {names[most]} ,person") == 0
    some = json.loads(capsys.readouterr().out)
    assert some["predictions"] == [
        row for row in whole["predictions"] if names[row["category_id"]] in (names[most], "person")
    ]
    assert some["classes"] == [names[most], "person"]
    assert predict(coffee, "--json", "-t", "0", "--max-detections", "2") == 0
    assert json.loads(capsys.readouterr().out)["predictions"] == whole["predictions"][:2]


@pytest.mark.usefixtures("mirror")
def test_names_of_a_checkpoints_own_classes_have_an_option_of_their_own(
    photos: Path, capsys: Capture
) -> None:
    assert predict(photos / "coffee.jpg", "--classes", "helmet,vest") == 1
    error = one_error(capsys)
    assert error.startswith("error: --classes: the model has no 'helmet'; ")
    assert error.endswith("; to say what the classes of a checkpoint are called, write --class-names\n")


@pytest.mark.usefixtures("mirror")
def test_a_checkpoint_that_does_not_tell_its_model_says_how_to_give_it(
    photos: Path, tmp_path: Path, tiny: Path, capsys: Capture
) -> None:
    file = tiny / info("tiny_mask").artifact.filename
    copy = tmp_path / f"mine{file.suffix}"
    copy.write_bytes(file.read_bytes())
    assert predict(photos / "coffee.jpg", model=str(copy)) == 1
    assert "--model NAME --weights FILE" in one_error(capsys)


@pytest.mark.usefixtures("mirror")
def test_a_folder_of_results_may_be_called_run(photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert predict(photos, "--output", "run") == 0
    assert (tmp_path / "run" / "predictions.json").is_file()


@pytest.mark.usefixtures("mirror")
def test_an_alias_is_recorded_under_the_models_name(photos: Path, capsys: Capture) -> None:
    assert predict(photos / "coffee.jpg", "--json", model="Tiny-Detection") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "tiny_detection"
    assert all("segmentation" not in row for row in document["predictions"])


# --- what it writes ---------------------------------------------------------------------------


@pytest.mark.usefixtures("mirror")
def test_output_holds_drawings_and_the_document(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "new" / "found"
    assert predict(photos, "--output", output, "--json") == 0
    assert sorted(path.name for path in output.glob("[!.]*")) == [
        "astronaut.jpg",
        "coffee.jpg",
        "predictions.json",
        "predictions.jsonl",
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
def test_drawing_follows_the_options(photos: Path, tmp_path: Path) -> None:
    options = ["--no-boxes", "--no-scores", "--color-by", "instance"]
    assert predict(photos / "coffee.jpg", "-o", tmp_path / "found", *options) == 0
    found = resnest_zoo.Predictor("tiny_mask", device="cpu")(photos / "coffee.jpg")
    with Image.open(tmp_path / "found" / "coffee.jpg") as drawing:
        drawn = np.asarray(drawing).astype(int)
    expected = found.plot(boxes=False, scores=False, colour_by="instance")
    assert np.abs(drawn - np.asarray(expected)).mean() < 6  # but for JPEG
    assert np.abs(drawn - np.asarray(found.plot())).mean() > 6


def test_options_of_drawing_are_arguments_of_plot() -> None:
    parser = argparse.ArgumentParser()
    add_drawing(parser)
    assert drawing_of(parser.parse_args([])) == {}
    chosen = drawing_of(parser.parse_args(["--no-masks", "--no-labels", "--colour-by", "instance"]))
    assert chosen == {"masks": False, "labels": False, "colour_by": "instance"}
    assert set(chosen) <= set(inspect.signature(Prediction.plot).parameters)


def test_a_font_that_is_none_is_told_before_a_model_is_fetched(
    mirror: FileServer, photos: Path, capsys: Capture
) -> None:
    assert predict(photos, "-o", photos / "found", "--font", photos / "coffee.jpg") == 1
    assert one_error(capsys).startswith("error: font: expected a TrueType or OpenType file, got ")
    assert mirror.paths == []
    assert not (photos / "found").exists()


SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "predictions.schema.json").read_text())


def validate_document(document: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("model", ["tiny_mask", "tiny_detection", "tiny_panoptic"])
@pytest.mark.parametrize("options", [[], ["--classes", "person", "--max-detections", "3", "--no-labels"]])
def test_the_document_is_as_its_schema_says(
    model: str, options: list[str], photos: Path, tmp_path: Path
) -> None:
    assert predict(photos, "--output", tmp_path / "found", *options, "-t", "0", model=model) == 0
    document = json.loads((tmp_path / "found" / "predictions.json").read_text())
    validate_document(document)
    for key in ("images", "predictions", *(["panoptic"] if model == "tiny_panoptic" else [])):
        for name in document[key][0] if document[key] or not options else ():
            broken = json.loads(json.dumps(document))
            broken[key][0][name] = {"of": "another kind"}
            with pytest.raises(jsonschema.ValidationError):
                validate_document(broken)


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
@pytest.mark.parametrize("name", ["shot.jpg", "shot_panoptic.png"])
@pytest.mark.parametrize("way", ["folder itself", "symlink"])
def test_no_picture_is_ever_overwritten(
    name: str, way: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    data = (photos / "coffee.jpg").read_bytes()
    (folder / name).write_bytes(data)
    (tmp_path / "shot.png").write_bytes(data)
    output = folder
    if way == "symlink":
        output = tmp_path / "link"
        output.symlink_to(folder)
    assert predict(tmp_path / "shot.png", folder / name, "--output", output, model="tiny_panoptic") == 1
    assert "would overwrite" in one_error(capsys)
    assert [path.name for path in folder.glob("[!.]*")] == [name]
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


# --- what can go wrong ------------------------------------------------------------------------


@pytest.mark.usefixtures("mirror")
def test_bad_pictures_are_reported_and_the_others_done(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    coffee = photos / "coffee.jpg"
    output = tmp_path / "found"
    assert predict(bad, coffee, tmp_path / "gone.jpg", "--output", output) == 1
    shown = capsys.readouterr()
    errors = [f"error: {tmp_path / 'gone.jpg'}: no such file"]  # told before the model is fetched
    *first, last = shown.err.splitlines()
    assert first == errors
    assert last.startswith(f"error: {bad}: not a picture in a format read here")
    assert shown.out.startswith(f"{coffee}: ")
    document = json.loads((output / "predictions.json").read_text())
    (row,) = document["images"]
    assert row["file_name"] == str(coffee)
    assert {found["image_id"] for found in document["predictions"]} == {row["id"]}
    assert sorted(path.name for path in output.glob("[!.]*")) == [
        "coffee.jpg",
        "predictions.json",
        "predictions.jsonl",
    ]


def test_without_any_picture_no_model_is_fetched(mirror: FileServer, tmp_path: Path, capsys: Capture) -> None:
    assert predict(tmp_path / "gone.jpg", "--output", tmp_path / "found") == 1
    assert one_error(capsys) == f"error: {tmp_path / 'gone.jpg'}: no such file\n"
    assert mirror.paths == []
    assert not (tmp_path / "found").exists()


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nSee documentation"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError(),
    ],
)
def test_a_picture_too_large_for_the_memory_is_reported_and_the_others_done(
    problem: Exception, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    predict_one = PicturePredictor.__call__

    def fail_at_first(self: PicturePredictor, picture: Any) -> Any:
        if picture.name == "astronaut.PNG":
            raise problem
        return predict_one(self, picture)

    monkeypatch.setattr(PicturePredictor, "__call__", fail_at_first)
    assert predict(photos) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {photos / 'astronaut.PNG'}: not enough memory; try ")
    assert shown.err.count("\n") == 1
    assert shown.out.startswith(f"{photos / 'coffee.jpg'}: ")


@pytest.mark.usefixtures("mirror")
def test_a_model_too_large_for_the_memory_is_one_line(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(PicturePredictor, "__init__", fail)
    assert predict(photos) == 1
    assert "not enough memory; try " in one_error(capsys)


@pytest.mark.usefixtures("mirror")
def test_other_errors_are_not_taken_for_a_lack_of_memory(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(PicturePredictor, "__call__", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        predict(photos)


@pytest.mark.usefixtures("mirror")
def test_augmentation_of_a_panoptic_model_says_what_is_missing(photos: Path, capsys: Capture) -> None:
    assert predict(photos / "coffee.jpg", "--tta", model="tiny_panoptic") == 0
    assert capsys.readouterr().err == "note: with --tta there is no panoptic map\n"
    assert predict(photos / "coffee.jpg", "--tta") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "tiny_msk"], "Did you mean 'tiny_mask'"),
        (["--model", "resnet50_msra"], "is an ImageNet backbone"),
        (["--model", "tiny_mask", "--weights", "gone.pth"], "gone.pth: cannot be read"),
        (["--model", "tiny_mask", "--device", "toaster"], "device 'toaster' cannot be used here"),
        (["--model", "tiny_mask", "--set", "TEST.NO=1"], "TEST.NO"),
        (["--model", "tiny_mask", "--set", "MODEL.WEIGHTS=a.pth"], "MODEL.WEIGHTS: use weights="),
        (["--model", "tiny_mask", "--output", "{photos}/notes.txt"], "notes.txt"),
        (["--model", "tiny_mask", "--output", "{photos}/notes.txt/below"], "Not a directory"),
        (["--model", "tiny_mask", "--resume"], "name it by --output"),
        (["--model", "gone.pth"], "given as --model NAME --weights FILE"),
        (["--model", "tiny_mask", "TEST.NO", "1"], "TEST.NO"),
    ],
)
def test_what_stops_the_whole_run_is_one_line(
    argv: list[str], message: str, photos: Path, capsys: Capture
) -> None:
    argv = [item.format(photos=photos) for item in argv]
    assert main(["predict", str(photos / "coffee.jpg"), *argv]) == 1
    assert message in one_error(capsys)


@pytest.mark.usefixtures("mirror")
def test_an_interrupt_is_130_and_keeps_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls = []
    predict_one = PicturePredictor.__call__

    def interrupt_at_second(self: PicturePredictor, picture: Any) -> Any:
        calls.append(picture)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predict_one(self, picture)

    monkeypatch.setattr(PicturePredictor, "__call__", interrupt_at_second)
    found = tmp_path / "found"
    assert predict(photos, "--output", found) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    first = calls[0]
    document = json.loads((found / "predictions.json").read_text())
    assert [row["file_name"] for row in document["images"]] == [str(first)]
    names = [f"{first.stem}.jpg", "predictions.json", "predictions.jsonl"]
    assert sorted(path.name for path in found.glob("[!.]*")) == names


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


def test_an_empty_name_is_not_the_current_folder(photos: Path, monkeypatch: Any, capsys: Capture) -> None:
    monkeypatch.chdir(photos)
    assert main(["predict", "", "--model", SHIPPED[0]]) == 1
    assert "a picture's name is empty" in capsys.readouterr().err


def test_a_device_without_values_is_refused(photos: Path, capsys: Capture) -> None:
    assert main(["predict", str(photos / "coffee.jpg"), "--model", SHIPPED[0], "--device", "meta"]) == 1
    assert 'the device "meta" has no values' in capsys.readouterr().err
