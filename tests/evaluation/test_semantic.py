"""Semantic IoU against a naive loop over pixels, and its rules on pictures drawn by hand."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest

from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.errors import ConfigError, ImageError, ShapeError
from resnest_zoo.evaluation.semantic import (
    IGNORED,
    SemanticMetrics,
    SemanticRecord,
    count_confusion,
    semantic_metrics,
    semantic_truth,
)
from tests.evaluation.pictures import CAT, CATEGORIES, DOG, GRASS, SKY, random_pair, segment_map

THINGS = 0  # category id of class 0, which holds all of them


def measured(truth: Any, found: Any) -> SemanticMetrics:
    return semantic_metrics([count_confusion(1, np.array(truth), np.array(found), CATEGORIES)], CATEGORIES)


def random_maps(count: int) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(0)
    maps = []
    for _ in range(count):
        size = tuple(rng.integers(1, 12, 2))
        truth = rng.choice([0, 1, 2, IGNORED], size)
        maps.append((truth, np.where(rng.random(size) < 0.6, truth % IGNORED, rng.integers(0, 3, size))))
    return maps


def naive_metrics(maps: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> dict[str, float]:
    pixels = [
        (int(t), int(f))
        for truth, found in maps
        for t, f in zip(truth.flat, found.flat, strict=True)
        if t != 255
    ]
    ious, accuracies, weights = [], [], []
    for k in range(3):
        both = sum(t == k and f == k for t, f in pixels)
        either = sum(t == k or f == k for t, f in pixels)
        wanted = sum(t == k for t, _ in pixels)
        if wanted:
            ious.append(both / either)
            accuracies.append(both / wanted)
            weights.append(wanted / len(pixels))
    return {
        "miou": sum(ious) / len(ious),
        "fwiou": sum(iou * weight for iou, weight in zip(ious, weights, strict=True)),
        "macc": sum(accuracies) / len(accuracies),
        "pacc": sum(t == f for t, f in pixels) / len(pixels),
    }


@pytest.mark.parametrize("count", [1, 2, 60])
def test_random_maps_score_as_the_naive_loop_has_them(count: int) -> None:
    maps = random_maps(count)
    records = [count_confusion(i, t.astype(np.uint8), f, CATEGORIES) for i, (t, f) in enumerate(maps)]
    metrics = semantic_metrics(records, CATEGORIES)
    for name, value in naive_metrics(maps).items():
        assert getattr(metrics, name) == pytest.approx(value, rel=0, abs=1e-12)


def test_metrics_follow_the_definition() -> None:
    metrics = measured([[0, 0, 0, 1], [1, 1, 255, 255]], [[0, 0, 1, 1], [1, 0, 2, 0]])
    assert metrics.iou == {THINGS: 2 / 4, SKY: 2 / 4, GRASS: None}  # pixels without a label count nowhere
    assert metrics.accuracy == {THINGS: 2 / 3, SKY: 2 / 3, GRASS: None}
    assert (metrics.miou, metrics.fwiou, metrics.macc, metrics.pacc) == (0.5, 0.5, 2 / 3, 4 / 6)


def test_a_class_found_but_not_in_the_truth_is_in_no_mean() -> None:
    """It lowers the IoU of the classes whose pixels it took; it is no class of its own with IoU 0."""
    metrics = measured([[1, 1, 1, 1]], [[1, 1, 1, 2]])
    assert metrics.iou == {THINGS: None, SKY: 3 / 4, GRASS: None}
    assert (metrics.miou, metrics.fwiou, metrics.macc, metrics.pacc) == (3 / 4, 3 / 4, 3 / 4, 3 / 4)


def test_a_class_never_found_lowers_the_means() -> None:
    metrics = measured([[1, 1, 1, 2]], [[1, 1, 1, 1]])
    assert metrics.iou == {THINGS: None, SKY: 3 / 4, GRASS: 0}
    assert (metrics.miou, metrics.fwiou, metrics.macc, metrics.pacc) == (3 / 8, 9 / 16, 1 / 2, 3 / 4)


def test_the_truth_predicted_back_is_exactly_one() -> None:
    metrics = measured([[0, 1, 1], [2, 255, 1]], [[0, 1, 1], [2, 0, 1]])
    assert (metrics.miou, metrics.fwiou, metrics.macc, metrics.pacc) == (1, 1, 1, 1)


def test_records_survive_json_and_come_in_any_order() -> None:
    records = [count_confusion(i, t, f, CATEGORIES) for i, (t, f) in enumerate(random_maps(200))]
    metrics = semantic_metrics(records, CATEGORIES)
    assert not math.isclose(metrics.miou, 1)
    for seed in range(5):
        shuffled = random.Random(seed).sample(records, len(records))
        assert semantic_metrics(iter(json.loads(json.dumps(shuffled))), CATEGORIES) == metrics


def test_a_record_lists_the_pairs_that_occur() -> None:
    record = count_confusion(
        8, np.array([[2, 2, 255], [0, 2, 2]]), np.array([[1, 2, 1], [0, 2, 2]]), CATEGORIES
    )
    assert record == {"image_id": 8, "pixels": [[0, 0, 1], [2, 1, 1], [2, 2, 3]]}
    byte = np.array([[52, 53]], dtype=np.uint8)  # pairs of COCO's 54 classes do not fit the maps' bytes
    record = count_confusion(8, byte, byte[:, ::-1], COCO_PANOPTIC)
    assert record["pixels"] == [[52, 53, 1], [53, 52, 1]]
    nothing = np.full((2, 2), IGNORED)
    assert count_confusion(9, nothing, np.zeros_like(nothing), CATEGORIES)["pixels"] == []


def test_the_truth_comes_from_panoptic_segments() -> None:
    """Things are class 0, crowd or not; stuff counts in its own order; void is ignored."""
    segments = [(300, CAT), (70000, DOG, True), (5, GRASS), (6, SKY)]
    truth = segment_map([[300, 70000, 0], [5, 6, 6]], *segments)
    labels = semantic_truth(truth, CATEGORIES)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 0, 255], [2, 1, 1]]
    for image_id in range(50):
        truth, _ = random_pair(np.random.default_rng(image_id), image_id)
        naive = np.full(truth.ids.shape, 255)
        for segment in truth.segments:
            naive[truth.ids == segment.id] = {CAT: 0, DOG: 0, SKY: 1, GRASS: 2}[segment.category_id]
        assert np.array_equal(semantic_truth(truth, CATEGORIES), naive)


def test_segments_that_are_not_of_the_map_are_refused() -> None:
    with pytest.raises(
        ImageError, match="image 1, ground truth: pixels have the ids 4, which no segment has"
    ):
        semantic_truth(segment_map([[1, 4]], (1, CAT)), CATEGORIES)
    with pytest.raises(ImageError, match="segment 1 has category id 99, which none of the 4 categories has"):
        semantic_truth(segment_map([[1]], (1, 99)), CATEGORIES)


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ([[0, 3]], [[0, 0]], "image 6, ground truth: expected classes 0 to 2, got 0 to 3"),
        ([[0, -1]], [[0, 0]], "image 6, ground truth: expected classes 0 to 2, got -1 to 0"),
        ([[0, 1]], [[0, 3]], "image 6, prediction: expected classes 0 to 2, got 0 to 3"),
        ([[0, 255]], [[0, 255]], "image 6, prediction: expected classes 0 to 2, got 0 to 255"),
    ],
)
def test_classes_beyond_the_categories_are_refused(truth: Any, found: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        count_confusion(6, np.array(truth), np.array(found), CATEGORIES)


def test_maps_of_the_wrong_shape_are_refused() -> None:
    right = np.zeros((2, 3), dtype=int)
    with pytest.raises(ShapeError, match=r"image 6: the ground truth is \(2, 3\) .* the prediction \(3, 2\)"):
        count_confusion(6, right, right.T, CATEGORIES)
    for wrong in (right[0], right[:0], right.astype(float)):
        with pytest.raises(ShapeError, match=r"image 6, prediction: expected classes \(H, W\) of integers"):
            count_confusion(6, right, wrong, CATEGORIES)
        with pytest.raises(ShapeError, match=r"image 6, ground truth: expected classes \(H, W\) of integers"):
            count_confusion(6, wrong, right, CATEGORIES)


def test_records_are_checked() -> None:
    record: SemanticRecord = {"image_id": 4, "pixels": [[0, 0, 5]]}
    with pytest.raises(ImageError, match="image 4 has two records"):
        semantic_metrics([record, record], CATEGORIES)
    with pytest.raises(ImageError, match="the record of image 4: expected classes 0 to 2, got 0 to 3"):
        semantic_metrics([{"image_id": 4, "pixels": [[0, 3, 5]]}], CATEGORIES)
    with pytest.raises(ImageError, match="no picture has a labelled pixel"):
        semantic_metrics([{"image_id": 4, "pixels": []}], CATEGORIES)


def test_categories_need_semantic_classes() -> None:
    many = Categories((), (), tuple(map(str, range(256))), tuple(range(256)))
    for categories, count in ((COCO, 0), (many, 256)):
        with pytest.raises(
            ConfigError, match=f"expected categories with 1 to 255 semantic classes, got {count}"
        ):
            semantic_metrics([], categories)
