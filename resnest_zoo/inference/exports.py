"""Results in the shapes that other tools take. `Prediction` has a method for each.

Packages that are not ours are imported when they are asked for.

Legend: N instances, H and W picture height and width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from resnest_zoo.annotations.masks import decode_rle
from resnest_zoo.errors import DataError, shown
from resnest_zoo.evaluation.results import detection_rows
from resnest_zoo.extras import load_extra
from resnest_zoo.ops.outlines import Outline, trace_outlines
from resnest_zoo.structures import InstanceArrays, Instances

Array = np.ndarray[Any, Any]


def to_pandas(found: Instances) -> Any:
    """A `pandas.DataFrame`, a row for each instance.

    Columns: `name`, `score`, `x0`, `y0`, `x1`, `y1` in pixels, `class_index` as in `Instances.classes`,
    `category_id`, and where there are masks `segmentation`, each in COCO's run-length encoding.

    Raises:
        ZooError: pandas is not installed.
    """
    pandas = load_extra("pandas", "pandas")
    boxes, scores, classes, _ = _arrays(found)
    columns: dict[str, Any] = {"name": found.names, "score": scores}
    columns |= dict(zip(("x0", "y0", "x1", "y1"), boxes.reshape(-1, 4).T, strict=True))
    columns |= {"class_index": classes, "category_id": np.array(_category_ids(found), dtype=np.int64)}
    rows = detection_rows(found, 0)
    if found.masks is not None or found.rles is not None:
        columns["segmentation"] = [row["segmentation"] for row in rows]
    return pandas.DataFrame(columns)


def to_torchvision(found: Instances) -> dict[str, Tensor]:
    """What torchvision's detectors return, and take as targets.

    Labels are category ids, as torchvision's own COCO models have them: from 1 for classes that were only
    named, those of the annotations for others. 0 is the background there.

    Returns:
        `boxes` (N, 4), `labels` (N,) int64, `scores` (N,), and where there are masks `masks` (N, 1, H, W)
        uint8 of 0 and 1.

    Raises:
        DataError: a class has the id 0.
    """
    if 0 in found.categories.thing_ids:
        name = found.categories.things[found.categories.thing_ids.index(0)]
        raise DataError(
            f"torchvision takes label 0 for the background, and that is the category id of {shown(name)}; "
            "number the categories from 1"
        )
    labels = found.classes.new_tensor(_category_ids(found))
    content = {"boxes": found.boxes, "labels": labels, "scores": found.scores}
    if found.masks is not None:
        content["masks"] = found.masks[:, None].byte()  # (N, 1, H, W)
    return content


def to_supervision(found: Instances) -> Any:
    """`supervision.Detections`: `class_id` is the class's place, `data` has `class_name` and `category_id`.

    Raises:
        ZooError: supervision is not installed.
    """
    supervision = load_extra("supervision", "supervision")
    boxes, scores, classes, masks = _arrays(found)
    return supervision.Detections(
        xyxy=boxes.reshape(-1, 4),
        mask=masks,
        confidence=scores,
        class_id=classes,
        data={
            "class_name": np.array(found.names, dtype=str),
            "category_id": np.array(_category_ids(found), dtype=np.int64),
        },
    )


def to_fiftyone(found: Instances) -> Any:
    """`fiftyone.Detections`, each with `label`, `confidence`, and `category_id` as an attribute of its own.

    FiftyOne places masks in whole pixels: an instance with a mask has the whole pixels of its box, and of its
    mask where that is larger, as its box, so that the mask stays as it is.

    Raises:
        ZooError: FiftyOne is not installed.
    """
    fiftyone = load_extra("fiftyone", "fiftyone")
    height, width = found.image_size
    boxes, scores, _, masks = _arrays(found)
    labels = []
    for index, (name, category_id) in enumerate(zip(found.names, _category_ids(found), strict=True)):
        box, inside = boxes[index].astype(float), None
        if masks is not None:
            box = _whole_pixels(boxes[index], masks[index])
            x0, y0, x1, y1 = box.tolist()
            inside = masks[index][y0:y1, x0:x1]
            # FiftyOne cuts fractions off, and 49 * (1 / 49) is less than 1.
            box = box + 1e-3
        x0, y0, x1, y1 = box.tolist()
        labels.append(
            fiftyone.Detection(
                label=name,
                bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
                confidence=float(scores[index]),
                mask=inside,
                category_id=category_id,
            )
        )
    return fiftyone.Detections(detections=labels)


def to_geojson(found: Instances) -> dict[str, Any]:
    """A GeoJSON feature collection in pixels, x to the right and y downwards.

    Of an instance with a mask the geometry is the mask's outline along pixel edges, holes included, a
    `MultiPolygon` where it has several pieces; of others their box. Properties: `name`, `score`,
    `class_index`, `category_id`, `bbox` as [x0, y0, x1, y1]. An empty mask has no geometry, None.
    """
    boxes, scores, classes, masks = _arrays(found)
    features = []
    for index, (name, category_id) in enumerate(zip(found.names, _category_ids(found), strict=True)):
        x0, y0, x1, y1 = boxes[index].tolist()
        outlines: list[Any] = [[[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]]]
        if masks is not None:
            outlines = trace_outlines(masks[index])
        properties = {"name": name, "score": float(scores[index]), "class_index": int(classes[index])}
        properties |= {"category_id": category_id, "bbox": [x0, y0, x1, y1]}
        features.append({"type": "Feature", "geometry": _geometry(outlines), "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _geometry(outlines: Sequence[Sequence[Sequence[tuple[float, float]]]]) -> dict[str, Any] | None:
    polygons = [[[list(corner) for corner in (*ring, ring[0])] for ring in outline] for outline in outlines]
    if not polygons:
        return None
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def to_labelme(found: Instances, file_name: str) -> dict[str, Any]:
    """What labelme keeps beside a picture, to be written as its name with `.json`.

    Each piece of a mask is a polygon, holes filled, since labelme's have none; pieces of one instance share
    their `group_id`. Instances without masks are rectangles. The score stands in `description`.

    Args:
        found: of the picture.
        file_name: its name, in the same folder as the JSON file.
    """
    boxes, scores, _, masks = _arrays(found)
    shapes: list[dict[str, Any]] = []
    for index, name in enumerate(found.names):
        x0, y0, x1, y1 = boxes[index].tolist()
        kind, pieces = "rectangle", [[(x0, y0), (x1, y1)]]
        if masks is not None:
            kind, pieces = "polygon", [outline[0] for outline in trace_outlines(masks[index])]
        shapes += [
            {
                "label": name,
                "points": [[float(x), float(y)] for x, y in piece],
                "group_id": index if len(pieces) > 1 else None,
                "description": f"score {scores[index]:.3f}",
                "shape_type": kind,
                "flags": {},
                "mask": None,
            }
            for piece in pieces
        ]
    height, width = found.image_size
    picture = {"imagePath": file_name, "imageData": None, "imageHeight": height, "imageWidth": width}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, **picture}


def to_coco_dataset(results: Iterable[tuple[str, Instances]]) -> dict[str, Any]:
    """A data set in COCO's format, as annotation tools such as CVAT import it and training takes it.

    Masks are polygons along pixel edges, from which COCO's tools make the same masks again; run lengths where
    a mask has holes, which such polygons cannot have. `iscrowd` is 0 for all; `score` stands beside.
    Categories are those of the model, with their ids; images and annotations are numbered from 1.

    Args:
        results: the file name of each picture, and what was found in it.

    Raises:
        DataError: results of different categories.
    """
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    first: Instances | None = None
    for image_id, (file_name, found) in enumerate(results, start=1):
        if first is not None and found.categories != first.categories:
            raise DataError(f"{file_name}: has other categories than the results before it")
        first = found
        height, width = found.image_size
        content["images"].append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for row in _annotations(found, image_id):
            content["annotations"].append({"id": len(content["annotations"]) + 1, **row})
    if first is not None:
        pairs = zip(first.categories.thing_ids, first.categories.things, strict=True)
        content["categories"] = [{"id": number, "name": name} for number, name in pairs]
    return content


def _annotations(found: Instances, image_id: int) -> Iterable[dict[str, Any]]:
    masks = _arrays(found).masks
    for index, row in enumerate(detection_rows(found, image_id)):
        x, y, width, height = row["bbox"]
        row |= {"area": width * height, "iscrowd": 0}
        if masks is None:
            row["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        else:
            row["area"] = int(masks[index].sum())
            row["segmentation"] = _polygons(trace_outlines(masks[index])) or row["segmentation"]
        yield row


def _polygons(outlines: Sequence[Outline]) -> list[list[float]] | None:
    """COCO's polygons; None where there is a hole."""
    if any(len(outline) > 1 for outline in outlines):
        return None
    return [[float(value) for corner in outer for value in corner] for (outer,) in outlines]


def _arrays(found: Instances) -> InstanceArrays:
    """The instances as arrays; masks that are there as run lengths decoded."""
    arrays = found.numpy()
    if arrays.masks is None and found.rles is not None:
        masks = np.zeros((len(found), *found.image_size), dtype=bool)
        for index, rle in enumerate(found.rles):
            masks[index] = decode_rle(rle)
        arrays = arrays._replace(masks=masks)
    return arrays


def _category_ids(found: Instances) -> list[int]:
    return [found.categories.thing_ids[k] for k in found.classes.tolist()]


def _whole_pixels(box: Array, mask: Array) -> Array:
    """(4,) whole pixels, one at least: the box with its edges rounded, and what of the mask is beyond it."""
    height, width = mask.shape
    x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
    rows, cols = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    x0, y0 = min([x0, width - 1, *cols[:1]]), min([y0, height - 1, *rows[:1]])
    x1, y1 = (
        max([x1, x0 + 1, *(last + 1 for last in cols[-1:])]),
        max([y1, y0 + 1, *(last + 1 for last in rows[-1:])]),
    )
    return np.array([x0, y0, x1, y1])
