"""A validation set is checked, before training, for everything that measuring will need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnest_zoo.distributed import World
from resnest_zoo.errors import DataError
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.training import validation
from resnest_zoo.training.evaluation import evaluate
from resnest_zoo.training.validation import read_validation_set
from tests.training.small_run import (
    MASKS,
    PANOPTIC,
    panoptic_files,
    small_config,
    small_data,
    small_model,
    small_validation,
    write_pictures,
)

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "set")
    return tmp_path / "set"


def model_of(folder: Path, changes: dict[str, Any]) -> GeneralizedRCNN:
    config = small_config({"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0, **changes})
    return small_model(config, small_data(folder, config))


def edit(file: Path, change: Edit) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def first_segment(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["annotations"][0]["segments_info"][0]
    return found


def swap_names(content: dict[str, Any]) -> None:
    one, other = content["categories"][:2]
    one["name"], other["name"] = other["name"], one["name"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: first_segment(c).update(id=0), r"1 of 4 pictures: image 1: segment ids are .* got 0"),
        (lambda c: first_segment(c).update(id=2), "image 1: segment ids are distinct .* got 2"),
        (lambda c: first_segment(c).update(id=2**24), "image 1: segment ids are distinct"),
        (lambda c: first_segment(c).update(id=99), r"pixels have the ids 1, which no segment has"),
        (
            lambda c: c["annotations"][0]["segments_info"].append({"id": 99, "category_id": 3}),
            "the segments 99 have no pixel",
        ),
        (lambda c: first_segment(c).pop("id"), "expected a panoptic annotation"),
        (
            lambda c: first_segment(c).update(iscrowd="0"),
            "image 1: expected a panoptic annotation: .* got {.*'iscrowd': '0'}",
        ),
        (lambda c: c["annotations"][0].update(image_id=2), "'image_id' of their own"),
        (lambda c: c["annotations"][0].update(image_id="1"), "lacks 1 of 4 pictures: 1"),
        (lambda c: c["categories"][0].pop("isthing"), "need 'isthing', .* not so 1 of 3: 3 'red'"),
        (lambda c: c["categories"][2].update(isthing="0"), "need 'isthing', .* not so 1 of 3: 20 'ground'"),
        (lambda c: c["categories"][0].update(isthing=0), "category 3 is 'red' and no thing there"),
        (swap_names, "category 3 is 'green' there, but 'red' in .*, 8 is 'red' there, but 'green'"),
        (lambda c: c["categories"][2].update(id=0), "stuff 'ground' has the category id 0"),
        (lambda c: c["categories"][2].update(name="floor"), r"20 +'floor' \(stuff\) +'ground' \(stuff\)"),
        (lambda c: first_segment(c).update(category_id=5), "image 1, .* has category id 5, which none of"),
    ],
)
def test_panoptic_annotations_that_could_not_be_measured_on_are_refused_before_training(
    folder: Path, change: Edit, message: str
) -> None:
    model = model_of(folder, PANOPTIC)
    edit(folder / "panoptic.json", change)
    with pytest.raises(DataError, match=message) as error:
        small_validation(folder, model)
    assert "panoptic.json" in str(error.value)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("L", (96, 64), 3), "expected a panoptic PNG of mode RGB, got mode L"),
        (
            Image.new("RGB", (48, 32), (3, 0, 0)),
            r"expected \(64, 96\) .*, got \(32, 48\)",
        ),
        (None, r"2\.png: no such file"),
    ],
)
def test_panoptic_files_are_all_read_before_training(
    folder: Path, picture: Image.Image | None, message: str
) -> None:
    model = model_of(folder, PANOPTIC)
    file = folder / "segments" / "2.png"
    file.unlink()
    if picture is not None:
        picture.save(file)
    with pytest.raises(DataError, match=f"1 of 4 pictures: .*{message}"):
        small_validation(folder, model)


def test_every_wrong_panoptic_file_is_counted(folder: Path) -> None:
    model = model_of(folder, PANOPTIC)
    for file in (folder / "segments").iterdir():
        Image.fromarray(np.full((64, 96, 3), 7, dtype=np.uint8)).save(file)
    with pytest.raises(DataError, match=r"4 of 4 pictures: image 1, .*; image 4, "):
        small_validation(folder, model)


def test_a_long_check_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of(folder, PANOPTIC)
    monkeypatch.setattr(validation, "_WORTH_A_NOTE", 4)
    with caplog.at_level("INFO"):
        small_validation(folder, model)
    assert "4 panoptic files are checked" in caplog.text
    assert "checked in 0 s" in caplog.text


def test_texts_as_picture_ids_work_for_panoptic_files_as_for_boxes(folder: Path) -> None:
    model = model_of(folder, PANOPTIC)
    expected = evaluate(model, small_validation(folder, model), World())

    def to_text(content: dict[str, Any]) -> None:
        for row in content["images"]:
            row["id"] = f"img_{row['id']}"
        for row in content["annotations"]:
            row["image_id"] = f"img_{row['image_id']}"

    for name in ("annotations.json", "panoptic.json"):
        edit(folder / name, to_text)
    assert evaluate(model, small_validation(folder, model), World()) == expected


def test_by_name_measures_the_same_under_other_ids(folder: Path) -> None:
    model = model_of(folder, PANOPTIC)
    expected = evaluate(model, small_validation(folder, model), World())
    ids = {3: 20, 8: 3, 20: 8}

    def renumber(content: dict[str, Any]) -> None:
        for row in content["categories"]:
            row["id"] = ids[row["id"]]
        for row in content["annotations"]:
            for part in row.get("segments_info", [row]):
                part["category_id"] = ids[part["category_id"]]

    for name in ("annotations.json", "panoptic.json"):
        edit(folder / name, renumber)
    with pytest.raises(DataError, match="--by-name"):
        small_validation(folder, model)
    files = folder / "annotations.json", folder, model, panoptic_files(folder)
    found = evaluate(model, read_validation_set(*files, by_name=True), World())
    assert found == pytest.approx(expected, nan_ok=True)


def test_some_of_the_classes_are_scored_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = model_of(folder, MASKS)
    whole = evaluate(model, small_validation(folder, model), World())

    def drop_green(content: dict[str, Any]) -> None:
        content["categories"] = content["categories"][:1]
        content["annotations"] = [row for row in content["annotations"] if row["category_id"] == 3]

    edit(folder / "annotations.json", drop_green)
    data = small_validation(folder, model)
    assert "lists 1 of the model's 2 classes, which alone are scored; it lacks green" in caplog.text
    found = evaluate(model, data, World())
    assert found is not None
    assert whole is not None
    assert found["bbox/AP"] == found["bbox/AP-red"] == whole["bbox/AP-red"]
    assert found["bbox/AP-green"] is None


def test_classes_that_the_model_lacks_are_void_by_name(folder: Path) -> None:
    model = model_of(folder, PANOPTIC)

    def rename_green(content: dict[str, Any]) -> None:
        content["categories"][1]["name"] = "blue"

    for name in ("annotations.json", "panoptic.json"):
        edit(folder / name, rename_green)
    files = folder / "annotations.json", folder, model, panoptic_files(folder)
    data = read_validation_set(*files, by_name=True)
    assert data.truth.category_ids == (3,)
    assert set(data.truth.categories.tolist()) == {0}
    truth = data.read_segments(1, (64, 96))
    assert {segment.category_id for segment in truth.segments} == {3, 20}
    assert set(np.unique(truth.ids).tolist()) == {0, 1, 3}
    assert evaluate(model, data, World()) is not None


def test_where_no_object_has_a_box_masks_alone_are_measured(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, without_masks = model_of(folder, MASKS), model_of(folder, {})
    both = evaluate(model, small_validation(folder, model), World())
    edit(folder / "annotations.json", lambda c: [row.pop("bbox") for row in c["annotations"]])
    data = small_validation(folder, model)
    assert "no annotation has a 'bbox': masks alone are measured" in caplog.text
    masks = evaluate(model, data, World())
    assert masks == {name: value for name, value in both.items() if name.startswith("segm/")}
    with pytest.raises(DataError, match="entries lack 'bbox'"):
        small_validation(folder, without_masks)


def test_boxes_of_some_objects_alone_are_refused(folder: Path) -> None:
    model = model_of(folder, MASKS)
    edit(folder / "annotations.json", lambda c: c["annotations"][0].pop("bbox"))
    with pytest.raises(DataError, match=r"1 of .* entries lack 'bbox'"):
        small_validation(folder, model)
