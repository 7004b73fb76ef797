"""Semantic segmentation: intersection over union of the classes of pixels, things together being class 0.

A picture becomes a small record of whole numbers, which survives JSON unchanged, and the metrics are a
function of all records. So records may come from any number of processes or from an interrupted run, in any
order: the last digit stays the same.

Legend: H and W of the picture, K semantic classes.

Source: detectron2, `evaluation/sem_seg_evaluation.py` and `datasets/prepare_panoptic_fpn.py` at 02b5c4e.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from resnest_zoo.annotations.tables import ImageId
from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, ImageError, ShapeError
from resnest_zoo.evaluation.segments import (
    Array,
    SegmentMap,
    common_runs,
    distinct,
    segment_positions,
    things_and_stuff,
)

IGNORED = 255  # the class of a pixel that nobody labelled


class SemanticRecord(TypedDict):
    """One picture's contribution to the semantic metrics.

    `pixels` has a row (class in the truth, class found, number of pixels) for each pair of classes that
    occurs; pixels without a label are left out.
    """

    image_id: ImageId
    pixels: list[list[int]]


@dataclass(frozen=True)
class SemanticMetrics:
    """Fractions in [0, 1]. A class without a pixel in the truth counts in no mean, even where it was found.

    Attributes:
        miou: mean IoU of the classes.
        fwiou: the same, each class weighted by its pixels in the truth.
        macc: mean accuracy of the classes.
        pacc: part of the labelled pixels whose class was found.
        iou: of each class by category id, 0 for "some thing"; None without a pixel in the truth.
        accuracy: part of its pixels that were found, likewise.
    """

    miou: float
    fwiou: float
    macc: float
    pacc: float
    iou: dict[int, float | None]
    accuracy: dict[int, float | None]


def semantic_truth(truth: SegmentMap, categories: Categories) -> Array:
    """The class of each pixel, from annotated segments.

    Returns:
        (H, W) uint8: 0 for all things, crowd included, k for class k of `Categories.stuff`, 255 for void.

    Raises:
        ImageError: a pixel's id is no segment's, a segment has no pixel, or a category is unknown.
        ConfigError: there are no semantic classes, more than 255, or a category id is a thing and stuff.
    """
    _num_classes(categories)
    known = things_and_stuff(categories)
    class_of = {id: k for k, id in enumerate(categories.stuff_ids)} | dict.fromkeys(categories.thing_ids, 0)
    ids, _, lengths = common_runs(truth.ids, truth.ids)
    positions = segment_positions(truth, ids, known, "ground truth")
    classes = np.array([IGNORED, *(class_of[segment.category_id] for segment in truth.by_id)], dtype=np.uint8)
    labels: Array = np.repeat(classes[positions], lengths).reshape(truth.ids.shape)  # (H, W)
    return labels


def count_confusion(image_id: ImageId, truth: Array, found: Array, categories: Categories) -> SemanticRecord:
    """Count how often each class was taken for each.

    Args:
        image_id: of the picture.
        truth: (H, W) integers, classes 0 ... K - 1, or 255 for a pixel that does not count.
        found: (H, W) integers, classes 0 ... K - 1.
        categories: whose `stuff` the K classes are.

    Returns:
        Rows by rising classes, that of the truth first.

    Raises:
        ShapeError: a map is not (H, W) of integers, is empty, or the two differ in size.
        ImageError: a class is beyond 0 ... K - 1.
        ConfigError: there are no semantic classes, or more than 255.
    """
    num_classes = _num_classes(categories)
    for classes, role in ((truth, "ground truth"), (found, "prediction")):
        if classes.ndim != 2 or classes.dtype.kind not in "iu" or classes.size == 0:
            raise ShapeError(
                f"image {image_id}, {role}: expected classes (H, W) of integers, "
                f"got {classes.shape} of {classes.dtype}"
            )
    if truth.shape != found.shape:
        raise ShapeError(
            f"image {image_id}: the ground truth is {truth.shape} pixels as (height, width), "
            f"the prediction {found.shape}"
        )
    rows, columns, lengths = common_runs(truth, found)
    labelled = rows != IGNORED
    _refuse_beyond(rows[labelled], num_classes, f"image {image_id}, ground truth")
    _refuse_beyond(columns, num_classes, f"image {image_id}, prediction")
    pairs = rows[labelled].astype(np.int64) * num_classes + columns[labelled].astype(np.int64)
    # Weighted counts are float64, exact for whole numbers below 2**53.
    pixels = np.bincount(pairs, lengths[labelled])
    return {
        "image_id": image_id,
        "pixels": [
            [*divmod(pair, num_classes), int(pixels[pair])] for pair in np.flatnonzero(pixels).tolist()
        ],
    }


def semantic_metrics(records: Iterable[SemanticRecord], categories: Categories) -> SemanticMetrics:
    """IoU and accuracy over the pixels of all pictures.

    Args:
        records: one for each picture, in any order.
        categories: those the records were made with.

    Raises:
        ImageError: two records are of one picture, a class is beyond 0 ... K - 1, or no pixel has a label.
        ConfigError: there are no semantic classes, or more than 255.

    Source: detectron2, `SemSegEvaluator.evaluate`.
    """
    num_classes = _num_classes(categories)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)  # truth, found
    for record in distinct(records):
        counts = np.array(record["pixels"], dtype=np.int64).reshape(-1, 3)
        _refuse_beyond(counts[:, :2], num_classes, f"the record of image {record['image_id']}")
        np.add.at(confusion, (counts[:, 0], counts[:, 1]), counts[:, 2])
    right = confusion.diagonal()
    in_truth, in_found = confusion.sum(axis=1), confusion.sum(axis=0)
    total = int(in_truth.sum())
    if total == 0:
        raise ImageError("no picture has a labelled pixel; there is nothing to average")
    present = in_truth > 0
    iou = right[present] / (in_truth + in_found - right)[present]
    accuracy = right[present] / in_truth[present]
    return SemanticMetrics(
        miou=math.fsum(iou) / len(iou),
        fwiou=math.fsum(iou * in_truth[present]) / total,
        macc=math.fsum(accuracy) / len(accuracy),
        pacc=int(right.sum()) / total,
        iou=_by_category(iou, present, categories),
        accuracy=_by_category(accuracy, present, categories),
    )


def _num_classes(categories: Categories) -> int:
    count = len(categories.stuff)
    if not 0 < count <= IGNORED:
        raise ConfigError(
            f"expected categories with 1 to {IGNORED} semantic classes, got {count}; "
            f"{IGNORED} stands for pixels without a label"
        )
    return count


def _refuse_beyond(classes: Array, num_classes: int, where: str) -> None:
    low, high = classes.min(initial=0), classes.max(initial=0)
    if low < 0 or high >= num_classes:
        raise ImageError(f"{where}: expected classes 0 to {num_classes - 1}, got {low} to {high}")


def _by_category(values: Array, present: Array, categories: Categories) -> dict[int, float | None]:
    """Values of the classes in `present`, by the category id of each class; None for the others."""
    listed: dict[int, float | None] = dict.fromkeys(categories.stuff_ids)
    listed.update(zip(np.array(categories.stuff_ids)[present].tolist(), values.tolist(), strict=True))
    return listed
