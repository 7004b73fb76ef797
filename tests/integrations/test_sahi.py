"""The detectors in the real SAHI: what comes through it is the model's, and slices find what is small."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_fill_holes
from torchvision.ops import box_iou

import resnest_zoo
from resnest_zoo.annotations.masks import decode_rle
from resnest_zoo.data import shapes
from resnest_zoo.errors import ConfigError, UnknownModelError, ZooError
from resnest_zoo.integrations import sahi as ours
from tests.test_pages import blocks

NAME = "mask_rcnn_resnest14_dcn_shapes"
PICTURE = shapes.draw(2, 0).image
SIZE = PICTURE.shape[:2]


@pytest.fixture
def sahi() -> Any:
    """The package itself, with its module of calls."""
    pytest.importorskip("sahi", reason="sahi is not installed: pip install 'resnest-zoo[sahi]', 200 MB")
    import sahi.predict

    return sahi


@pytest.fixture(scope="module")
def model() -> Any:
    return resnest_zoo.get(NAME)


def found_by(sahi: Any, detector: Any, picture: Any = PICTURE, **options: Any) -> list[Any]:
    found = sahi.predict.get_prediction(picture, detector, **options).object_prediction_list
    assert isinstance(found, list)
    return found


def around(mask: Any) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_without_sahi_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sahi", None)
    with pytest.raises(ZooError, match=r"^sahi is not installed: pip install 'resnest-zoo\[sahi\]'$"):
        ours.ResNeStDetectionModel(NAME)
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        ours.Other  # noqa: B018


def test_masks_names_ids_and_scores_come_through(sahi: Any, model: Any) -> None:
    detector = ours.ResNeStDetectionModel(model=model)
    assert isinstance(detector, sahi.models.base.DetectionModel)
    expected = resnest_zoo.Predictor(model, score_threshold=0.3)(PICTURE)  # SAHI's default
    found = found_by(sahi, detector)
    assert len(found) == len(expected) > 4
    ids = [model.categories.thing_ids[k] for k in expected.classes.tolist()]
    assert [(one.category.id, one.category.name) for one in found] == list(
        zip(ids, expected.names, strict=True)
    )
    assert [one.score.value for one in found] == expected.scores.tolist()
    for one, mask in zip(found, expected.numpy().masks, strict=True):
        row = one.to_coco_prediction(image_id=1).json
        x, y, width, height = row["bbox"]
        assert one.bbox.to_xyxy() == around(mask) == [x, y, x + width, y + height]
        assert row["area"] == pytest.approx(mask.sum(), abs=1)
        drawn = decode_rle(coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], *SIZE)))
        holes_filled = binary_fill_holes(mask, np.ones((3, 3)))
        assert np.array_equal(drawn.astype(bool), holes_filled)
        more = one.mask.bool_mask & ~mask  # as OpenCV draws polygons, to which their edges belong
        grown = np.pad(mask, ((1, 0), (1, 0)))
        assert not (mask & ~one.mask.bool_mask).any()
        assert not (more & ~(grown[1:, :-1] | grown[:-1, 1:] | grown[:-1, :-1])).any()
    assert detector.has_mask
    assert detector.category_names == list(model.categories.things)
    assert detector.num_categories == len(model.categories.things)


def test_boxes_alone_come_through_to_the_last_bit_and_a_single_slice_is_the_whole(sahi: Any) -> None:
    boxes_only = resnest_zoo.get(NAME, overrides={"MODEL.MASK_ON": False})
    detector = ours.ResNeStDetectionModel(model=boxes_only, confidence_threshold=0.1)
    assert not detector.has_mask
    expected = resnest_zoo.Predictor(boxes_only, score_threshold=0.1)(PICTURE)
    found = found_by(sahi, detector)
    assert [one.bbox.to_xyxy() for one in found] == expected.boxes.tolist()
    assert {one.mask for one in found} == {None}
    sliced = sahi.predict.get_sliced_prediction(
        PICTURE,
        detector,
        slice_height=SIZE[0],
        slice_width=SIZE[1],
        postprocess_type="NMS",
        postprocess_match_metric="IOU",
        postprocess_match_threshold=1.0,
        verbose=0,
    ).object_prediction_list
    whole = sorted((one.score.value, one.category.id, one.bbox.to_xyxy()) for one in found)
    assert sorted((one.score.value, one.category.id, one.bbox.to_xyxy()) for one in sliced) == whole


def test_slices_lie_where_they_were_cut_and_batches_change_nothing(sahi: Any, model: Any) -> None:
    height, width = SIZE
    large = np.full((height + 40, width + 60, 3), 128, np.uint8)
    large[40:, 60:] = PICTURE
    detector = ours.ResNeStDetectionModel(model=model)
    slices = [large[40:, 60:], large[:height, :width]]
    shifts, whole = [[60, 40], [0, 0]], [list(large.shape[:2])] * 2
    detector.perform_batch_inference(slices)
    detector.convert_original_predictions(shift_amount=shifts, full_shape=whole)
    first, second = detector.object_prediction_list_per_image
    alone = resnest_zoo.Predictor(model, score_threshold=0.3)(PICTURE)
    assert len(first) == len(alone)
    for one, mask in zip(first, alone.numpy().masks, strict=True):
        there = one.get_shifted_object_prediction()
        x0, y0, x1, y1 = around(mask)
        assert there.bbox.to_xyxy() == [x0 + 60, y0 + 40, x1 + 60, y1 + 40]
        assert there.mask.bool_mask[40:, 60:][mask].all()
    other = found_by(sahi, detector, slices[1])
    assert [one.score.value for one in second] == pytest.approx([one.score.value for one in other], abs=1e-5)


def test_the_threshold_of_a_call_counts_in_both_directions(sahi: Any, model: Any) -> None:
    detector = ours.ResNeStDetectionModel(model=model, confidence_threshold=0.5)
    predict = resnest_zoo.Predictor(model)
    counts = [len(found_by(sahi, detector, confidence_threshold=value)) for value in (0.05, 0.9)]
    assert counts == [len(predict(PICTURE, score_threshold=value)) for value in (0.05, 0.9)]
    assert counts[0] > len(found_by(sahi, detector)) > counts[1] > 0


def test_small_objects_are_found_in_slices_and_missed_in_the_whole(sahi: Any) -> None:
    """The block of docs/howto.md, and its numbers."""
    block = next(block for block in blocks("docs/howto.md", "python") if "sahi" in block.text)
    names: dict[str, Any] = {}
    exec(compile(block.text, "docs/howto.md", "exec"), names)
    boxes, ids = [], []
    for index in range(12):
        for thing in shapes.draw(2, index, size=(128, 160), crowd_fraction=0).things:
            x, y, width, height = thing.bbox
            x, y = x + index % 4 * 256 + 48, y + index // 4 * 256 + 64
            boxes.append([x, y, x + width, y + height])
            ids.append(thing.category_id)

    def count(result: Any) -> int:
        rows = result.object_prediction_list
        iou = box_iou(
            torch.tensor(boxes, dtype=torch.float32),
            torch.tensor([one.bbox.to_xyxy() for one in rows], dtype=torch.float32),
        )
        same = torch.tensor(ids)[:, None] == torch.tensor([one.category.id for one in rows])
        return int(((iou > 0.5) & same).any(dim=1).sum())

    assert len(boxes) == 62
    whole, sliced = count(names["whole"]), count(names["sliced"])
    assert (whole, sliced) == pytest.approx(
        (7, 44), abs=2
    )  # the page's; scores at the threshold may go either way
    assert {row["category_id"] for row in names["rows"]} <= set(ids)


def test_masks_of_one_pixel_stay_and_empty_ones_leave_the_models_box(sahi: Any, model: Any) -> None:
    detector = ours.ResNeStDetectionModel(model=model)
    detector.perform_inference(PICTURE)
    (found,) = detector.original_predictions
    masks = torch.zeros_like(found.masks)
    masks[0, 5, 7] = True  # one pixel; the others none
    detector._original_predictions = [replace(found, masks=masks)]
    detector.convert_original_predictions()
    first, *others = detector.object_prediction_list
    assert first.bbox.to_xyxy() == [7, 5, 8, 6]
    assert first.mask.bool_mask[5, 7]
    assert [one.bbox.to_xyxy() for one in others] == found.boxes[1:].tolist()
    assert {one.mask for one in others} == {None}


def test_pictures_without_objects_give_none(sahi: Any, model: Any) -> None:
    detector = ours.ResNeStDetectionModel(model=model, confidence_threshold=1.0)
    assert found_by(sahi, detector) == []


def test_a_name_is_loaded_when_it_is_asked_for_at_the_size_asked_for(sahi: Any) -> None:
    detector = ours.ResNeStDetectionModel(NAME, device="cpu", load_at_init=False, image_size=96)
    with pytest.raises(ConfigError, match="no model is loaded: call load_model"):
        found_by(sahi, detector)
    detector.load_model()
    assert detector.device == torch.device("cpu")
    assert max(detector.model.preprocessing.input_size((500, 300))) == 96
    assert isinstance(found_by(sahi, detector), list)
    detector.unload_model()
    assert detector.model is None


def test_names_and_ids_can_be_others(sahi: Any, model: Any) -> None:
    names = {str(k): f"shape {k}" for k in model.categories.thing_ids}
    ids = {str(k): 100 + k for k in model.categories.thing_ids}
    detector = ours.ResNeStDetectionModel(model=model, category_mapping=names, category_remapping=ids)
    for one in found_by(sahi, detector):
        assert one.category.name == f"shape {one.category.id - 100}"


def test_the_gpus_of_the_process_stay_as_they_are(
    sahi: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert ours.ResNeStDetectionModel(model=model, device="cpu").device.type == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "model_path: expected what resnest_zoo.get takes"),
        ({"model": "mask_rcnn"}, "expected one that get has built, got 'mask_rcnn'; a name is"),
        ({"model": 3}, "expected a model, got 3"),
        ({"image_size": 640}, "image_size: expected none with a model already built"),
        ({"mask_threshold": 0.3}, r"mask_threshold: masks are cut at 0\.5 here, got 0\.3"),
        ({"category_mapping": {"1": "circle"}}, "category_mapping: has no name for the model's category"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
    ],
)
def test_wrong_arguments_are_told(sahi: Any, model: Any, options: dict[str, Any], message: str) -> None:
    given = options if not options or "model" in options else {"model": model, **options}
    with pytest.raises(ConfigError, match=message):
        ours.ResNeStDetectionModel(**given)
    with pytest.raises(UnknownModelError, match="No model is called 'nothing'"):
        ours.ResNeStDetectionModel("nothing")
