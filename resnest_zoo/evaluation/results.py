"""COCO's result formats: what a detector found, as rows for the data set's evaluators.

Source: https://cocodataset.org/#format-results.
"""

from __future__ import annotations

from typing import Any

from resnest_zoo.annotations.tables import ImageId
from resnest_zoo.categories import Categories
from resnest_zoo.ops.rle import encode_masks
from resnest_zoo.structures import Instances, PanopticResult


def detection_rows(found: Instances, image_id: ImageId) -> list[dict[str, Any]]:
    """The instances of one picture in COCO's result format.

    Returns:
        For each instance `image_id`, `category_id`, `bbox` as [x, y, width, height] in pixels, `score`, and,
        where there are masks, `segmentation` as a compressed RLE.
    """
    ids = found.categories.thing_ids
    rows: list[dict[str, Any]] = []
    for (x0, y0, x1, y1), score, class_index in zip(
        found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True
    ):
        row = {"image_id": image_id, "category_id": ids[class_index], "bbox": [x0, y0, x1 - x0, y1 - y0]}
        rows.append({**row, "score": score})
    rles = found.rles
    if rles is None and found.masks is not None:
        rles = tuple(encode_masks(found.masks))
    for row, rle in zip(rows, rles or (), strict=rles is not None):
        row["segmentation"] = rle
    return rows


def segment_rows(panoptic: PanopticResult, categories: Categories) -> list[dict[str, Any]]:
    """The segments of a panoptic map, as `segments_info` lists them.

    Returns:
        For each segment `id`, `category_id`, `area` in pixels and `isthing`.
    """
    rows = []
    for segment in panoptic.segments:
        category_ids = categories.thing_ids if segment.is_thing else categories.stuff_ids
        row = {"id": segment.id, "category_id": category_ids[segment.class_index], "area": segment.area}
        rows.append({**row, "isthing": int(segment.is_thing)})
    return rows
