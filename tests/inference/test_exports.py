"""Results in other tools' shapes, each read back through the tool itself where it is installed."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import coco as coco_api

from resnest_zoo.annotations.masks import decode_rle
from resnest_zoo.categories import Categories
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.errors import ConfigError, DataError, ZooError
from resnest_zoo.inference import Prediction, exports
from resnest_zoo.ops.rle import encode_masks
from resnest_zoo.structures import Instances
from tests.ops.test_outlines import filled
from tests.test_pages import blocks

# With gaps, as COCO's ids have them, so that no class can be taken for its id.
CATEGORIES = Categories(("cup", "dish", "épée"), (47, 3, 90))
NAMES = {3: "dish", 47: "cup", 90: "épée"}


@pytest.fixture
def masks() -> torch.Tensor:
    """A block, two blocks, a block with a hole."""
    masks = torch.zeros(3, 37, 49, dtype=torch.bool)
    masks[0, 12:30, 5:20] = True
    masks[1, 2:8, 30:40] = masks[1, 10:20, 25:33] = True
    masks[2, 1:11, 1:23] = True
    masks[2, 3:7, 5:9] = False
    return masks


@pytest.fixture
def found(masks: torch.Tensor) -> Prediction:
    instances = Instances(
        boxes=torch.tensor([[5.3, 11.8, 20.4, 30.2], [24.9, 1.6, 40.1, 19.7], [0.7, 1.2, 22.6, 11.0]]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
        classes=torch.tensor([2, 0, 2]),
        image_size=(37, 49),
        categories=CATEGORIES,
        masks=masks,
    )
    return Prediction(torch.zeros(3, 37, 49, dtype=torch.uint8), instances, "folder/photo.png")


@pytest.fixture
def boxes_only(found: Prediction) -> Prediction:
    return replace(found, instances=replace(found.instances, masks=None))


@pytest.fixture
def encoded(found: Prediction, masks: torch.Tensor) -> Prediction:
    """With run lengths in place of masks."""
    return replace(found, instances=replace(found.instances, masks=None, rles=tuple(encode_masks(masks))))


def imported(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # supervision's, of an OpenCV that is not there, among others
        return pytest.importorskip(name)


# --- pandas --------------------------------------------------------------------------------------------


def test_a_frame_has_a_row_for_each_instance(
    found: Prediction, boxes_only: Prediction, encoded: Prediction
) -> None:
    pandas = imported("pandas")
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    corners = ["x0", "y0", "x1", "y1"]
    assert list(frame) == ["name", "score", *corners, "class_index", "category_id", "segmentation"]
    assert list(frame["name"]) == ["épée", "cup", "épée"]
    assert list(frame["score"]) == [0.75, 0.5, 0.25]
    assert list(frame["class_index"]) == [2, 0, 2]
    assert list(frame["category_id"]) == [90, 47, 90]
    assert np.array_equal(frame[corners].to_numpy(), found.boxes.numpy())
    decoded = np.stack([decode_rle(rle) for rle in frame["segmentation"]])
    assert np.array_equal(decoded, found.numpy().masks)
    assert list(encoded.to_pandas()["segmentation"]) == list(frame["segmentation"])
    assert list(boxes_only.to_pandas()) == list(frame)[:-1]


def test_a_frame_survives_its_csv_and_json(found: Prediction, tmp_path: Path) -> None:
    pandas = imported("pandas")
    for sample in (found, found[:0]):
        sample.to_pandas().drop(columns="segmentation").to_csv(tmp_path / "found.csv", index=False)
        again = pandas.read_csv(tmp_path / "found.csv")
        assert list(again["name"]) == sample.names
        assert np.allclose(again[["x0", "y0", "x1", "y1"]].to_numpy(dtype=float), sample.boxes.numpy())
    rows = json.loads(found.to_pandas().to_json(orient="records"))
    assert [row["segmentation"]["size"] for row in rows] == [[37, 49]] * 3


# --- torchvision ---------------------------------------------------------------------------------------


def test_torchvision_gets_category_ids_as_labels(found: Prediction, boxes_only: Prediction) -> None:
    given = found.to_torchvision()
    assert given["labels"].tolist() == [90, 47, 90]
    assert given["labels"].dtype == torch.int64
    assert given["boxes"] is found.boxes
    assert given["scores"] is found.scores
    assert given["masks"].shape == (3, 1, 37, 49)
    assert given["masks"].dtype == torch.uint8
    assert found.masks is not None
    assert torch.equal(given["masks"][:, 0].bool(), found.masks)
    assert "masks" not in boxes_only.to_torchvision()


def test_torchvisions_own_drawing_and_suppression_take_it(found: Prediction) -> None:
    from torchvision.ops import batched_nms
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    given = found.to_torchvision()
    assert batched_nms(given["boxes"], given["scores"], given["labels"], 0.5).tolist() == [0, 1, 2]
    assert draw_segmentation_masks(found.image, given["masks"][:, 0].bool()).any()
    assert draw_bounding_boxes(found.image, given["boxes"]).any()


def test_an_id_that_means_background_there_is_refused(found: Prediction) -> None:
    zero = replace(
        found, instances=replace(found.instances, categories=Categories(("a", "b", "c"), (1, 0, 2)))
    )
    with pytest.raises(DataError, match="label 0 for the background, and that is the category id of 'b'"):
        zero.to_torchvision()


# --- supervision ---------------------------------------------------------------------------------------


def test_supervision_has_masks_classes_ids_and_names(
    found: Prediction, boxes_only: Prediction, encoded: Prediction
) -> None:
    supervision = imported("supervision")
    given = found.to_supervision()
    assert isinstance(given, supervision.Detections)
    assert np.array_equal(given.xyxy, found.boxes.numpy())
    assert np.array_equal(given.mask, found.numpy().masks)
    assert np.array_equal(encoded.to_supervision().mask, given.mask)
    assert given.confidence.tolist() == [0.75, 0.5, 0.25]
    assert given.class_id.tolist() == [2, 0, 2]
    assert given["class_name"].tolist() == ["épée", "cup", "épée"]
    assert given["category_id"].tolist() == [90, 47, 90]
    assert boxes_only.to_supervision().mask is None
    best = given[given.confidence > 0.6]
    assert best["class_name"].tolist() == ["épée"]
    assert best.mask.shape == (1, 37, 49)


def test_supervision_takes_a_result_without_detections(found: Prediction) -> None:
    supervision = imported("supervision")
    nothing = found[:0].to_supervision()
    assert len(nothing) == 0
    both = supervision.Detections.merge([nothing, found.to_supervision()])
    assert len(both) == 3
    assert supervision.Detections.merge([found[:1].to_supervision(), found[1:].to_supervision()]) == both


def test_supervision_reads_the_coco_data_set(found: Prediction, tmp_path: Path) -> None:
    supervision = imported("supervision")
    write_data_set(found, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = supervision.DetectionDataset.from_coco(
            str(tmp_path), str(tmp_path / "found.json"), force_masks=True
        )
        ((_, _, read),) = list(data)
    assert [data.classes[k] for k in read.class_id] == found.names
    masks = found.numpy().masks
    assert masks is not None
    assert np.array_equal(read.mask[2], masks[2])  # run lengths
    for mask, expected in zip(read.mask, masks, strict=True):  # it fills polygons one pixel further
        assert mask[expected].all()
        grown = np.pad(expected, ((1, 0), (1, 0)))
        assert not mask[~(expected | grown[:-1, 1:] | grown[1:, :-1] | grown[:-1, :-1])].any()
    assert np.allclose(read.xyxy, found.boxes.numpy(), atol=1e-4)


# --- FiftyOne ------------------------------------------------------------------------------------------


def test_fiftyone_has_masks_ids_and_names(found: Prediction, boxes_only: Prediction) -> None:
    fiftyone = imported("fiftyone")
    given = found.to_fiftyone()
    assert isinstance(given, fiftyone.Detections)
    assert [d.label for d in given.detections] == ["épée", "cup", "épée"]
    assert [d.confidence for d in given.detections] == [0.75, 0.5, 0.25]
    assert [d.category_id for d in given.detections] == [90, 47, 90]
    assert found.masks is not None
    for detection, mask, box in zip(given.detections, found.masks, found.boxes.tolist(), strict=True):
        drawn = detection.to_segmentation(frame_size=(49, 37), target=1).mask
        assert np.array_equal(drawn.astype(bool), mask.numpy())
        x, y, w, h = detection.bounding_box
        assert np.allclose([x * 49, y * 37, (x + w) * 49, (y + h) * 37], box, atol=0.51)
    for detection, box in zip(boxes_only.to_fiftyone().detections, found.boxes.tolist(), strict=True):
        x, y, w, h = detection.bounding_box
        assert np.allclose([x * 49, y * 37, (x + w) * 49, (y + h) * 37], box, atol=1e-4)
        assert detection.mask is None
    assert found[:0].to_fiftyone().detections == []


@pytest.mark.parametrize(
    ("box", "cells", "expected"),
    [
        ((1.6, 2.4, 4.4, 5.6), (2, 2, 4, 6), (2, 2, 4, 6)),  # rounded
        ((1.6, 2.4, 4.4, 5.6), (1, 1, 6, 7), (1, 1, 6, 7)),  # a mask beyond its box
        ((3.1, 3.1, 3.3, 3.3), None, (3, 3, 4, 4)),  # a box within a pixel
        ((6.8, 6.9, 7.0, 8.0), None, (6, 7, 7, 8)),  # at the picture's edge
    ],
)
def test_whole_pixels_hold_the_mask(box: Any, cells: Any, expected: Any) -> None:
    mask = np.zeros((8, 7), dtype=bool)
    if cells is not None:
        x0, y0, x1, y1 = cells
        mask[y0:y1, x0:x1] = True
    assert tuple(exports._whole_pixels(np.array(box), mask)) == expected


# --- GeoJSON -------------------------------------------------------------------------------------------


def test_geojson_outlines_fill_to_the_masks(found: Prediction, encoded: Prediction) -> None:
    collection = json.loads(json.dumps(found.to_geojson()))
    assert collection["type"] == "FeatureCollection"
    kinds = [feature["geometry"]["type"] for feature in collection["features"]]
    assert kinds == ["Polygon", "MultiPolygon", "Polygon"]
    assert found.masks is not None
    for feature, mask in zip(collection["features"], found.masks, strict=True):
        polygons = feature["geometry"]["coordinates"]
        polygons = polygons if feature["geometry"]["type"] == "MultiPolygon" else [polygons]
        assert all(ring[0] == ring[-1] for polygon in polygons for ring in polygon)
        rings = [ring[:-1] for polygon in polygons for ring in polygon]
        assert np.array_equal(filled(rings, (37, 49)), mask.numpy())
    properties = [feature["properties"] for feature in collection["features"]]
    assert [p["name"] for p in properties] == found.names
    assert [p["category_id"] for p in properties] == [90, 47, 90]
    assert [p["class_index"] for p in properties] == [2, 0, 2]
    assert [p["score"] for p in properties] == [0.75, 0.5, 0.25]
    assert encoded.to_geojson() == found.to_geojson()


def test_shapely_reads_the_geojson(found: Prediction, boxes_only: Prediction) -> None:
    shapely = imported("shapely")
    for feature, mask in zip(found.to_geojson()["features"], found.numpy().masks, strict=True):
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert geometry.is_valid
        assert geometry.area == mask.sum()
        oriented = [getattr(geometry, "geoms", [geometry])[0].exterior]
        assert all(ring.is_ccw for ring in oriented)  # as RFC 7946 has outer rings
    for feature, box in zip(boxes_only.to_geojson()["features"], found.boxes.tolist(), strict=True):
        assert shapely.from_geojson(json.dumps(feature["geometry"])).bounds == pytest.approx(box)


def test_an_empty_mask_has_no_geometry(found: Prediction, masks: torch.Tensor) -> None:
    empty = replace(found, instances=replace(found.instances, masks=torch.zeros_like(masks)))
    assert [feature["geometry"] for feature in empty.to_geojson()["features"]] == [None] * 3
    assert [row["segmentation"]["size"] for row in empty.to_coco_dataset()["annotations"]] == [[37, 49]] * 3
    assert empty.to_labelme()["shapes"] == []


# --- COCO and labelme ----------------------------------------------------------------------------------


def write_data_set(found: Prediction, folder: Path) -> None:
    Image.new("RGB", (49, 37)).save(folder / "photo.png")
    (folder / "found.json").write_text(json.dumps(found.to_coco_dataset()))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_pycocotools_makes_the_same_masks_of_the_data_set(
    found: Prediction, encoded: Prediction, tmp_path: Path
) -> None:
    write_data_set(found, tmp_path)
    coco = coco_api.COCO(str(tmp_path / "found.json"))
    assert coco.imgs[1]["file_name"] == "photo.png"
    assert [coco.cats[row["category_id"]]["name"] for row in coco.loadAnns([1, 2, 3])] == found.names
    assert [row["iscrowd"] for row in coco.loadAnns([1, 2, 3])] == [0, 0, 0]
    assert [type(row["segmentation"]) for row in coco.loadAnns([1, 2, 3])] == [list, list, dict]
    assert found.masks is not None
    for row, mask in zip(coco.loadAnns([1, 2, 3]), found.masks, strict=True):
        assert np.array_equal(coco.annToMask(row), mask.numpy())
        assert row["area"] == mask.sum()
    assert encoded.to_coco_dataset() == found.to_coco_dataset()


def test_training_reads_the_data_set(found: Prediction, boxes_only: Prediction, tmp_path: Path) -> None:
    for sample in (found, boxes_only):
        write_data_set(sample, tmp_path)
        data = read_dataset(tmp_path / "found.json", tmp_path)
        assert dict(zip(data.categories.thing_ids, data.categories.things, strict=True)) == NAMES
        record = data[0]
        assert len(record.boxes) == 3


def test_many_pictures_make_one_data_set(found: Prediction, boxes_only: Prediction) -> None:
    content = exports.to_coco_dataset([("a.png", found.instances), ("b.png", boxes_only.instances[:2])])
    assert [(row["id"], row["file_name"]) for row in content["images"]] == [(1, "a.png"), (2, "b.png")]
    assert [(row["id"], row["image_id"]) for row in content["annotations"]] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 2),
        (5, 2),
    ]
    assert content["annotations"][3]["segmentation"][0] == pytest.approx(
        [5.3, 11.8, 20.4, 11.8, 20.4, 30.2, 5.3, 30.2]
    )
    other = replace(found.instances, categories=Categories.numbered(3))
    with pytest.raises(DataError, match=r"b\.png: has other categories"):
        exports.to_coco_dataset([("a.png", found.instances), ("b.png", other)])
    assert exports.to_coco_dataset([]) == {"images": [], "annotations": [], "categories": []}


def test_a_picture_without_a_file_needs_a_name(found: Prediction) -> None:
    nameless = replace(found, path=None)
    for call in (nameless.to_coco_dataset, nameless.to_labelme):
        with pytest.raises(ConfigError, match="was read from no file: pass file_name="):
            call()
        assert call("a.png")
    assert replace(found, path="C:\\photos\\a.png").to_labelme()["imagePath"] == "a.png"


def test_labelme_gets_polygons_in_groups_and_rectangles(found: Prediction, boxes_only: Prediction) -> None:
    content = json.loads(json.dumps(found.to_labelme()))
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("photo.png", 37, 49)
    labels = [(shape["label"], shape["group_id"], shape["shape_type"]) for shape in content["shapes"]]
    assert labels == [
        ("épée", None, "polygon"),
        ("cup", 1, "polygon"),
        ("cup", 1, "polygon"),
        ("épée", None, "polygon"),
    ]
    rings = [[tuple(point) for point in shape["points"]] for shape in content["shapes"][1:3]]
    assert np.array_equal(filled(rings, (37, 49)), found.numpy().masks[1])  # type: ignore[index]
    assert content["shapes"][0]["description"] == "score 0.750"
    (first, *_) = boxes_only.to_labelme()["shapes"]
    assert first["shape_type"] == "rectangle"
    assert first["points"] == [pytest.approx([5.3, 11.8]), pytest.approx([20.4, 30.2])]


# --- what is not there ---------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["pandas", "supervision", "fiftyone"])
def test_a_package_that_is_not_there_is_one_line(
    package: str, found: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ZooError, match=rf"^{package} is not installed: pip install 'resnest-zoo\[{package}\]'$"
    ):
        getattr(found, f"to_{package}")()


def test_a_broken_package_is_not_said_to_be_missing(
    found: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pandas.py").write_text("import a_package_that_is_nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    with pytest.raises(ZooError, match=r"pandas is installed but .*'a_package_that_is_nowhere'"):
        found.to_pandas()


@pytest.mark.parametrize("package", ["supervision", "fiftyone"])
def test_the_page_shows_what_the_package_takes(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = imported(package)
    monkeypatch.chdir(tmp_path)
    first, *others = blocks("docs/results.md", "python")
    names: dict[str, Any] = {}
    (block,) = (block for block in others if block.text.startswith(f"import {package}\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in (first.text, block.text):
            exec(compile(text, "docs/results.md", "exec"), names)
    found = names["found"]
    if package == "supervision":
        assert names["inside"].tolist() == [box[0] + box[2] < 110 for box in found.boxes.tolist()]
        assert 0 < names["inside"].sum() < len(found)
        assert not np.array_equal(names["picture"], found.image.permute(1, 2, 0).numpy())
        assert "stand in the left part" in capsys.readouterr().out
        assert 0 < names["score"].map50_95 < 1
    else:
        assert isinstance(names["sample"], module.Sample)
        assert [one.label for one in names["sample"]["found"].detections] == found.names
        assert (tmp_path / "found.png").is_file()
