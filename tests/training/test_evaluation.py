"""Evaluation while training: known detections give known metrics, and problems are told before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.data.pictures import read_picture
from resnest_zoo.distributed import World
from resnest_zoo.errors import DataError, ImageError, ZooError
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import Instances, PanopticResult, Segment
from resnest_zoo.training.evaluation import evaluate, evaluate_all
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "set")
    return tmp_path / "set"


def model_of(folder: Path, changes: dict[str, Any] | None = None) -> GeneralizedRCNN:
    config = small_config(changes)
    return small_model(config, small_data(folder, config))


def truth_of(folder: Path, model: GeneralizedRCNN, shift: float = 0.0) -> Any:
    """A detector that knows the annotations, and moves the boxes."""
    content = json.loads((folder / "annotations.json").read_text())
    files = {row["id"]: read_picture(folder / row["file_name"]) for row in content["images"]}

    def detect(image: Tensor) -> Instances:
        image_id = next(k for k, picture in files.items() if torch.equal(picture, image))
        own = [row for row in content["annotations"] if row["image_id"] == image_id]
        boxes = torch.tensor([row["bbox"] for row in own])
        boxes[:, 2:] += boxes[:, :2]
        size = (image.shape[1], image.shape[2])
        masks = torch.zeros(len(own), *size, dtype=torch.bool)
        segments = np.asarray(read_picture(folder / "segments" / f"{image_id}.png"))[0]
        for k, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
            masks[k, y0:y1, x0:x1] = True
        panoptic = PanopticResult(
            torch.from_numpy(segments.astype(np.int32)),
            (
                *(Segment(k + 1, True, k, int(masks[k].sum()), 0.9, k) for k in range(2)),
                Segment(3, False, 1, int((segments == 3).sum())),
            ),
            torch.from_numpy((segments == 3).astype(np.int64)),
        )
        scores = torch.linspace(0.9, 0.8, len(own))
        return Instances(boxes + shift, scores, torch.tensor([0, 1]), size, model.categories, masks, panoptic)

    return detect


def test_what_is_right_scores_a_hundred(folder: Path) -> None:
    model = model_of(folder, PANOPTIC)
    data = small_validation(folder, model)
    found = evaluate(model, data, World(), detect=truth_of(folder, model))
    assert found is not None
    names = ("panoptic_seg/PQ", "sem_seg/mIoU", "segm/AP", "bbox/AP", "bbox/AP75")
    assert [found[name] for name in names] == pytest.approx([100] * 5)
    assert next(iter(found)) == "panoptic_seg/PQ"
    assert found["bbox/APl"] is None


def test_the_main_metric_comes_first(folder: Path) -> None:
    for changes, name in ((MASKS, "segm/AP"), ({}, "bbox/AP")):
        model = model_of(folder, changes)
        found = evaluate(model, small_validation(folder, model), World())
        assert found is not None
        assert next(iter(found)) == name


def test_boxes_that_are_off_score_less(folder: Path) -> None:
    model = model_of(folder)
    found = evaluate(model, small_validation(folder, model), World(), detect=truth_of(folder, model, 3.0))
    assert found is not None
    assert found["bbox/AP50"] == pytest.approx(100)
    assert 0 < (found["bbox/AP"] or 0) < 60


@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_finds_nothing_scores_zero_and_keeps_its_mode(folder: Path, training: bool) -> None:
    model = model_of(folder, {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 1.0, **PANOPTIC}).train(training)
    found = evaluate(model, small_validation(folder, model), World())
    assert found is not None
    assert (found["bbox/AP"], found["segm/AP50"]) == (0, 0)
    assert model.training is training


def test_several_sets_are_measured_apart_though_their_ids_are_the_same(folder: Path, tmp_path: Path) -> None:
    """Each metric then bears its set's name, as with detectron2; the first set's main one comes first."""
    write_pictures(tmp_path / "other", seed=1)
    model = model_of(folder, PANOPTIC)
    sets = {name: small_validation(tmp_path / path, model) for name, path in (("b", "set"), ("a", "other"))}
    right, shifted = truth_of(folder, model), truth_of(tmp_path / "other", model, 3.0)
    own = {picture.sum().item() for picture in map(read_picture, sorted(folder.glob("*.png")))}

    def detect(image: Tensor) -> Instances:
        return (right if image.sum().item() in own else shifted)(image)

    alone = {name: evaluate(model, data, World(), detect=detect) for name, data in sets.items()}
    found = evaluate_all(model, sets, World(), detect=detect)
    assert found == {f"{name}/{k}": v for name, part in alone.items() for k, v in (part or {}).items()}
    assert next(iter(found)) == "b/panoptic_seg/PQ"
    assert (found["b/panoptic_seg/PQ"], found["b/bbox/AP"]) == pytest.approx((100, 100))
    assert 0 < (found["a/bbox/AP"] or 0) < 60


def test_one_set_alone_needs_no_name(folder: Path) -> None:
    model = model_of(folder)
    data = small_validation(folder, model)
    assert evaluate_all(model, {"a": data}, World()) == evaluate(model, data, World())
    assert evaluate_all(model, {"a": data, "b": data}, World(), stopped=lambda: True) is None


def test_an_evaluation_is_given_up_when_asked(folder: Path) -> None:
    model = model_of(folder)
    asked = iter([False, True, True, True])
    data = small_validation(folder, model)
    assert evaluate(model, data, World(), stopped=lambda: next(asked)) is None
    assert list(asked) == [True]  # after the second picture, and once more at the end


def test_a_picture_that_cannot_be_read_is_named(folder: Path) -> None:
    model = model_of(folder)
    data = small_validation(folder, model)
    (folder / "2.png").write_bytes(b"no picture")
    with pytest.raises(ZooError, match=r"2\.png"):
        evaluate(model.train(), data, World())
    assert model.training


def swap_sizes(folder: Path) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    for row in content["images"]:
        row["height"], row["width"] = row["width"], row["height"]
    (folder / "annotations.json").write_text(json.dumps(content))


def test_pictures_of_another_size_than_annotated_are_named_before_anything_is_predicted(folder: Path) -> None:
    """Boxes of another frame would be measured without an error: AP 0."""
    model = model_of(folder)
    swap_sizes(folder)
    with pytest.raises(DataError, match=r"4 of 4 pictures: .*1\.png: has height and width \(64, 96\)"):
        small_validation(folder, model)


def test_a_picture_that_was_replaced_by_one_of_another_size_is_named(folder: Path) -> None:
    model = model_of(folder)
    data = small_validation(folder, model)
    Image.new("RGB", (48, 32)).save(folder / "2.png")
    with pytest.raises(ZooError, match=r"2\.png: has height and width \(32, 48\), .* say \(64, 96\)"):
        evaluate(model, data, World())


def test_pictures_need_no_size_where_boxes_alone_are_measured(folder: Path) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    model = model_of(folder)
    for row in content["images"]:
        del row["height"], row["width"]
    (folder / "annotations.json").write_text(json.dumps(content))
    assert evaluate(model, small_validation(folder, model), World()) is not None


def test_missing_pictures_are_told_before_anything_is_trained(folder: Path) -> None:
    model = model_of(folder)
    (folder / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 pictures are missing in .*set: 3\.png$"):
        small_validation(folder, model)
    (folder / "3.PNG").touch()
    if not (folder / "3.png").exists():
        with pytest.raises(
            DataError, match=r"1 of 4 pictures are missing in .*set: 3\.png; there is '3\.PNG'"
        ):
            small_validation(folder, model)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("annotations.json", None, "file_name"),
        ("panoptic.json", "{", r"panoptic\.json: is not JSON"),
        ("panoptic.json", '{"annotations": [{"file_name": 5}], "categories": []}', "a text as 'file_name'"),
        ("panoptic.json", "missing", r"panoptic\.json: cannot be read"),
    ],
)
def test_files_in_another_layout_are_refused(
    folder: Path, name: str, content: str | None, message: str
) -> None:
    model = model_of(folder, PANOPTIC)
    if content == "missing":
        (folder / name).unlink()
    else:
        nameless = (folder / name).read_text().replace("file_name", "file")
        (folder / name).write_text(nameless if content is None else content)
    with pytest.raises(DataError, match=message):
        small_validation(folder, model)


def test_a_mask_model_needs_masks_to_be_measured(folder: Path) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    model = model_of(folder, MASKS)
    for row in content["annotations"]:
        row.pop("segmentation")
    (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="segmentation"):
        small_validation(folder, model)


def test_panoptic_annotations_must_cover_the_pictures(folder: Path) -> None:
    model = model_of(folder, PANOPTIC)
    content = json.loads((folder / "panoptic.json").read_text())
    content["annotations"] = content["annotations"][1:]
    (folder / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="lacks 1 of 4 pictures: 1"):
        small_validation(folder, model)


def test_panoptic_annotations_are_passed_over_where_the_model_has_no_stuff(folder: Path) -> None:
    missing = PanopticFiles(folder / "no.json", folder)
    data = read_validation_set(folder / "annotations.json", folder, model_of(folder), missing)
    assert data.panoptic is None


def test_a_segment_file_that_cannot_be_read_is_an_error(folder: Path) -> None:
    model = model_of(folder, PANOPTIC)
    data = small_validation(folder, model)
    (panoptic_files(folder).folder / "1.png").unlink()
    with pytest.raises((ImageError, ZooError), match=r"1\.png"):
        evaluate(model, data, World())
