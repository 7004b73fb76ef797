"""What docs/surprises.md says of this package, where evaluators disagree on valid files."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnest_zoo.errors import DataError
from resnest_zoo.evaluation.detection import Evaluator, evaluate_detections
from tests.evaluation.detection_sets import Builder, back, filled

BOTH: tuple[Evaluator, ...] = ("pycocotools", "hotcoco")


def two_pictures() -> Builder:
    builder = Builder()
    for image in (1, 2):
        builder.image(image)
        builder.object(image, 1, (10, 10, 50, 50))
    return builder


@pytest.mark.parametrize("evaluator", BOTH)
@pytest.mark.parametrize("ids", [(0, 1), (1, 1), (-1, -2), ("a", None)])
def test_annotation_ids_change_no_metric(
    tmp_path: Path, evaluator: Evaluator, ids: tuple[object, ...]
) -> None:
    builder = two_pictures()
    for row, number in zip(builder.truth["annotations"], ids, strict=True):
        row["id"] = number
    found = evaluate_detections(builder.write(tmp_path), back(builder.truth), "bbox", evaluator=evaluator)
    assert found.ap == pytest.approx(1)


@pytest.mark.parametrize("evaluator", BOTH)
def test_a_box_beside_a_mask_changes_no_metric_of_masks(tmp_path: Path, evaluator: Evaluator) -> None:
    builder = Builder()
    builder.image(1)
    flat, alarm = (10, 10, 60, 10), (10, 60, 60, 10)
    builder.object(1, 1, flat)
    builder.found(1, 1, flat, 0.9)
    builder.found(1, 1, (10, 60, 60, 60), 0.95, filled(*builder.size, alarm))
    truth = builder.write(tmp_path)
    found = evaluate_detections(truth, builder.rows, "segm", evaluator=evaluator)
    for row in builder.rows:
        del row["bbox"]
    assert found == evaluate_detections(truth, builder.rows, "segm", evaluator=evaluator)
    assert found.ap_small == pytest.approx(0.5)


def test_an_area_left_out_is_an_error(tmp_path: Path) -> None:
    builder = two_pictures()
    del builder.truth["annotations"][1]["area"]
    with pytest.raises(DataError, match="'area'"):
        evaluate_detections(builder.write(tmp_path), back(builder.truth), "bbox")
