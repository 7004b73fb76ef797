"""COCO's result formats: rows that say the same boxes, masks and segments, by COCO's own rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.evaluation.results import detection_rows, segment_rows
from resnest_zoo.ops.rle import encode_masks
from resnest_zoo.structures import Instances, PanopticResult, Segment

# Ids with gaps, out of order and beyond the number of classes.
CATEGORIES = Categories(("cat", "dog", "owl"), (7, 90, 3), ("things", "sky", "grass"), (0, 187, 100))
SIZE = (6, 9)


def masks() -> Tensor:
    found = torch.zeros((2, *SIZE), dtype=torch.bool)
    found[0, 1:4, 2:7] = True
    found[0, 2, 3] = False
    found[1, 5, 8] = found[1, 0, 0] = True
    return found


def instances(**changes: object) -> Instances:
    found = Instances(
        boxes=torch.tensor([[2.0, 1.0, 7.0, 4.0], [0.25, 0.5, 9.0, 6.0]]),
        scores=torch.tensor([0.75, 0.5]),
        classes=torch.tensor([2, 0]),
        image_size=SIZE,
        categories=CATEGORIES,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def empty(**changes: object) -> Instances:
    found = instances(
        boxes=torch.zeros((0, 4)), scores=torch.zeros(0), classes=torch.zeros(0, dtype=torch.int64)
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def test_boxes_are_corner_and_size_and_classes_are_category_ids() -> None:
    assert detection_rows(instances(), 42) == [
        {"image_id": 42, "category_id": 3, "bbox": [2.0, 1.0, 5.0, 3.0], "score": 0.75},
        {"image_id": 42, "category_id": 7, "bbox": [0.25, 0.5, 8.75, 5.5], "score": 0.5},
    ]


def test_rows_keep_the_order_of_the_instances_and_every_digit() -> None:
    scores = torch.tensor([0.1, 1 / 3], dtype=torch.float64)
    rows = json.loads(json.dumps(detection_rows(instances(scores=scores), 1)))
    assert [row["score"] for row in rows] == scores.tolist()


def test_masks_are_run_lengths_that_decode_to_them() -> None:
    rows = json.loads(json.dumps(detection_rows(instances(masks=masks()), 1)))
    for row, mask in zip(rows, masks(), strict=True):
        assert row["segmentation"]["size"] == list(SIZE)
        assert np.array_equal(_decode(row["segmentation"]), mask.numpy())
        assert {"bbox", "score"} <= set(row)


def _decode(rle: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    flat = np.zeros(SIZE[0] * SIZE[1], dtype=bool)
    position, value = 0, False
    for length in _lengths(rle["counts"]):
        flat[position : position + length] = value
        position, value = position + length, not value
    return flat.reshape(SIZE, order="F")


def _lengths(counts: str) -> list[int]:
    """COCO's compressed run lengths: five bits a letter; from the fourth on, added to the one before last."""
    lengths: list[int] = []
    value = shift = 0
    for letter in counts:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value |= -1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths


def test_encoded_masks_are_taken_as_they_are() -> None:
    plain = detection_rows(instances(masks=masks()), 1)
    encoded = detection_rows(instances(rles=tuple(encode_masks(masks()))), 1)
    assert encoded == plain


def test_of_encoded_and_pasted_masks_the_encoded_count() -> None:
    rles = ({"size": list(SIZE), "counts": "one"}, {"size": list(SIZE), "counts": "two"})
    rows = detection_rows(instances(masks=masks(), rles=rles), 1)
    assert [row["segmentation"]["counts"] for row in rows] == ["one", "two"]


@pytest.mark.parametrize(
    "found", [empty(), empty(masks=torch.zeros((0, *SIZE), dtype=torch.bool)), empty(rles=())]
)
def test_nothing_found_is_no_row(found: Instances) -> None:
    assert detection_rows(found, 1) == []


def test_segments_have_category_ids_areas_and_kinds() -> None:
    segments = (
        Segment(1, True, 1, 20, 0.9, 0),
        Segment(2, False, 2, 300),
        Segment(5, True, 0, 1, 0.8),
    )
    zeros = torch.zeros(SIZE, dtype=torch.int32)
    rows = segment_rows(PanopticResult(zeros, segments, zeros.long()), CATEGORIES)
    assert rows == [
        {"id": 1, "category_id": 90, "area": 20, "isthing": 1},
        {"id": 2, "category_id": 100, "area": 300, "isthing": 0},
        {"id": 5, "category_id": 7, "area": 1, "isthing": 1},
    ]
    assert segment_rows(PanopticResult(zeros, (), zeros.long()), CATEGORIES) == []
