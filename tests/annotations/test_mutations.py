"""Whatever a file of annotations or of results holds, reading it succeeds or ends in an error of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnest_zoo.data.coco import read_categories, read_dataset
from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.evaluation.coco_json import load_truth, read_rows
from resnest_zoo.evaluation.detection import evaluate_detections
from tests.data.small_set import SmallSet
from tests.evaluation.detection_sets import Builder
from tests.mutations import check_each, mutated_json, mutated_trees
from tests.test_mutations import COUNT, writer


def test_data_sets(tmp_path: Path) -> None:
    small = SmallSet(tmp_path, [(40, 60), (50, 50)])
    write = writer(small.write())

    def use(content: bytes) -> None:
        read_dataset(write(content), small.images, masks=True)

    check_each(mutated_json(small.data, 3 * COUNT), use)
    check_each(mutated_json(small.data, COUNT, seed=1), lambda content: read_categories(write(content)))


def test_panoptic_annotations(tmp_path: Path) -> None:
    small = SmallSet(tmp_path, [(40, 60), (50, 50)])
    annotations, files = small.write(), small.write_panoptic()
    write = writer(files.annotations)

    def use(content: bytes) -> None:
        read_dataset(annotations, small.images, panoptic=PanopticFiles(write(content), files.folder))

    check_each(mutated_json(small.panoptic_data(), 2 * COUNT), use)


def test_ground_truth(tmp_path: Path) -> None:
    builder = Builder()
    for image in (1, 2):
        builder.image(image)
        builder.object(image, 1, (10, 10, 30, 20))
    write = writer(tmp_path / "truth.json")
    check_each(
        mutated_json(builder.truth, 2 * COUNT), lambda content: load_truth(write(content)).check_masks()
    )


@pytest.mark.parametrize("masks", [False, True])
def test_result_rows(tmp_path: Path, masks: bool) -> None:
    builder = Builder()
    for image in (1, 2):
        builder.image(image)
        builder.object(image, 1, (10, 10, 30, 20))
    (tmp_path / "truth.json").write_text(json.dumps(builder.truth))
    truth = load_truth(tmp_path / "truth.json")
    mask = builder.truth["annotations"][0]["segmentation"]
    row = {"image_id": 1, "category_id": 1, "bbox": [10.0, 10.0, 30.0, 20.0], "score": 0.5}
    rows = [{**row, "segmentation": mask}, {**row, "image_id": 2, "segmentation": mask}]
    write = writer(tmp_path / "rows.json")

    def use(content: bytes) -> None:
        if masks:  # no evaluator is given a mask of which only our reader knows that it is one
            read_rows(write(content), truth, masks=True)
        else:
            evaluate_detections(truth, write(content), "bbox")

    check_each(mutated_json(rows, 2 * COUNT), use)
    for damaged in mutated_trees(rows, COUNT // 2):  # rows need no file
        if isinstance(damaged, list):
            check_each(iter([rows, damaged, 5]), lambda value: read_rows(value, truth, masks=masks))
