"""AP against pycocotools, a plain loop and numbers worked out by hand; both evaluators everywhere."""

from __future__ import annotations

import copy
import json
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnest_zoo.errors import ConfigError, DataError
from resnest_zoo.evaluation.coco_json import load_truth
from resnest_zoo.evaluation.detection import Evaluator, Kind, evaluate_detections
from tests.evaluation.detection_sets import (
    Builder,
    back,
    encode,
    figures_of,
    hide_hotcoco,
    largest_difference,
    naive_ap,
    random_set,
    reference,
    run_lengths,
    scattered,
)

both_evaluators = pytest.mark.parametrize(
    "evaluator",
    [
        "pycocotools",
        pytest.param("hotcoco", marks=pytest.mark.skipif(not find_spec("hotcoco"), reason="not installed")),
    ],
)
both_kinds = pytest.mark.parametrize("kind", ["bbox", "segm"])
pycocotools_warns = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
nearly_one = pytest.approx(1, abs=4e-16)  # pycocotools divides one hit by 1 + 2e-16


def one_box(folder: Path, annotated: list[float], found: list[float]) -> tuple[Path, list[dict[str, Any]]]:
    build = Builder(categories=(1,))
    build.image(1)
    build.object(1, 1, annotated)
    build.found(1, 1, found)
    return build.write(folder), build.rows


@both_evaluators
@both_kinds
def test_the_truth_given_back_is_exactly_one(tmp_path: Path, kind: Kind, evaluator: Evaluator) -> None:
    build = Builder(categories=(1, 2, 7))
    for image in (4, 5, 6):
        build.image(image)
    build.object(4, 1, [2, 3, 20, 30])  # small
    build.object(4, 2, [0, 0, 60, 50])  # medium
    build.object(4, 2, [70, 50, 40, 40])
    build.object(5, 1, [1, 1, 150, 110])  # large
    found = evaluate_detections(build.write(tmp_path), back(build.truth), kind, evaluator=evaluator)
    figures = figures_of(found)
    assert figures.pop("category 7") is None  # nothing to find
    assert figures.pop("ar1") == 0.75  # one of the two objects of category 2 in image 4
    assert all(value == nearly_one for value in figures.values())
    assert (found.kind, found.images, found.max_detections) == (kind, 3, 100)
    assert (found.evaluator, found.version) == (evaluator, metadata.version(evaluator))


@both_evaluators
def test_areas_without_objects_have_no_figure(tmp_path: Path, evaluator: Evaluator) -> None:
    path, rows = one_box(tmp_path, [0, 0, 20, 20], [0, 0, 20, 20])
    found = evaluate_detections(path, rows, "bbox", evaluator=evaluator)
    assert (found.ap_small, found.ap_medium, found.ap_large) == (nearly_one, None, None)
    assert (found.ar_small, found.ar_medium, found.ar_large) == (1.0, None, None)


@both_evaluators
@both_kinds
@pytest.mark.parametrize(
    ("width", "shift", "met"),
    [
        (30, 10, 1),  # IoU 20 / 40: the threshold itself counts
        (40, 10, 3),  # 30 / 50: 0.5, 0.55 and 0.6
        (35, 5, 6),  # 30 / 40
        (38, 2, 9),  # 36 / 40: numpy's ninth threshold is a little below 0.9
        (78, 2, 10),  # 76 / 80
        (29, 10, 0),  # 19 / 39
    ],
)
def test_a_shifted_box_counts_up_to_its_iou(
    tmp_path: Path, kind: Kind, evaluator: Evaluator, width: int, shift: int, met: int
) -> None:
    path, rows = one_box(tmp_path, [5, 5, width, 40], [5 + shift, 5, width, 40])
    found = evaluate_detections(path, rows, kind, evaluator=evaluator)
    assert [found.ap, found.ar100, found.per_category[1]] == pytest.approx([met / 10] * 3, abs=1e-15)
    assert (found.ap50, found.ap75) == pytest.approx((float(met >= 1), float(met >= 6)), abs=1e-15)


@both_evaluators
def test_precision_and_recall_are_as_by_hand(tmp_path: Path, evaluator: Evaluator) -> None:
    """A false alarm, then one of two objects: precision 1/2 up to recall 1/2, which is 51 of 101 levels."""
    build = Builder(categories=(1,))
    build.image(1)
    build.object(1, 1, [0, 0, 20, 20])
    build.object(1, 1, [50, 50, 20, 20])
    build.found(1, 1, [100, 0, 20, 20], score=0.9)
    build.found(1, 1, [0, 0, 20, 20], score=0.8)
    found = evaluate_detections(build.write(tmp_path), build.rows, "bbox", evaluator=evaluator)
    assert found.ap == pytest.approx(51 / 101 / 2, abs=1e-15)
    assert (found.ar1, found.ar10) == (0.0, 0.5)


@both_evaluators
def test_boxes_and_masks_of_one_row_are_judged_apart(tmp_path: Path, evaluator: Evaluator) -> None:
    """Also the area of a mask's result is the mask's: its box, were it looked at, would be a large one."""
    build = Builder(categories=(1,))
    build.image(1)
    build.object(1, 1, [0, 0, 20, 20])
    build.found(1, 1, [0, 0, 20, 20], score=0.4)
    build.found(1, 1, [60, 60, 10, 10], score=0.9)  # a small false alarm
    build.rows[1]["bbox"] = [0, 0, 150, 110]
    path = build.write(tmp_path)
    mask = evaluate_detections(path, build.rows, "segm", evaluator=evaluator)
    box = evaluate_detections(path, build.rows, "bbox", evaluator=evaluator)
    assert (mask.ap_small, box.ap_small) == (pytest.approx(0.5), pytest.approx(1))
    assert mask.ap == box.ap == pytest.approx(0.5)


@both_evaluators
@both_kinds
def test_no_results_are_an_ap_of_zero(tmp_path: Path, kind: Kind, evaluator: Evaluator) -> None:
    build = Builder()
    build.image(1)
    build.object(1, 1, [0, 0, 20, 20])
    found = evaluate_detections(build.write(tmp_path), [], kind, evaluator=evaluator)
    assert [found.ap, found.ap50, found.ap_small, found.ar1, found.ar100, found.ar_small] == [0.0] * 6
    assert found.ap_large is None
    assert found.per_category == {1: 0.0, 2: None}


@both_evaluators
def test_images_without_objects_have_no_figures(tmp_path: Path, evaluator: Evaluator) -> None:
    build = Builder()
    build.image(1)
    build.image(2)
    build.object(1, 1, [0, 0, 20, 20])
    build.found(2, 1, [0, 0, 20, 20])
    found = evaluate_detections(build.write(tmp_path), build.rows, "bbox", image_ids=[2], evaluator=evaluator)
    assert set(figures_of(found).values()) == {None}
    assert found.images == 1


def crowds() -> Builder:
    build = Builder()
    for image in (1, 2):
        build.image(image)
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[10:90, 10:140] = 1
    build.object(1, 1, [10, 10, 130, 80], mask, iscrowd=1, segmentation=run_lengths(mask))
    build.object(1, 1, [20, 20, 30, 30])
    build.object(2, 2, [0, 0, 90, 90], iscrowd=1)
    for x in (20, 30, 60, 90):  # the first is the object, the others are in the crowd
        build.found(1, 1, [x, 20, 30, 30], score=0.9)
    build.found(1, 1, [125, 70, 30, 30], score=0.95)  # half outside
    build.found(2, 2, [5, 5, 10, 10])
    return build


def many() -> Builder:
    """120 detections of a category in an image, the object's with the lowest score or at the tie."""
    build = Builder(size=(60, 80))
    for image in (1, 2):
        build.image(image)
        build.object(image, 1, [5, 5, 20, 20])
        for index in range(120):
            build.found(image, 1, [30 + index % 40, 30, 10, 10], score=0.5 if image == 1 else 1 - index / 200)
        build.found(image, 1, [5, 5, 20, 20], score=0.5 if image == 1 else 0.1)
    build.rows.insert(99, build.rows.pop(120))
    return build


def tiny() -> Builder:
    """Masks of one pixel and of none, boxes without width or with a negative one."""
    build = Builder(categories=(0, 3), size=(9, 11))
    for image in (0, 1):
        build.image(image)
        build.object(image, 3, [4, 4, 1, 1])
        build.object(image, 3, [2, 2, 0, 0])
        build.object(image, 0, [0, 0, 1, 9], bbox=[1, 0, -1, 9])
    build.found(0, 3, [4, 4, 1, 1], 0.5)
    build.found(0, 3, [2, 2, 0, 0], 0.5)
    build.found(1, 3, [4, 5, 1, 1], 0.0)
    build.found(1, 3, [4, 4, 1, 1], -0.0)
    build.found(1, 0, [0, 0, 1, 9], 1.0)
    build.rows[-1]["bbox"] = [1, 0, -1, -9]
    return build


def ties() -> Builder:
    """Equal scores and equal IoUs: the order of rows and of annotations decides."""
    build = Builder(size=(60, 80))
    for image in (3, 1, 2):
        build.image(image)
        build.object(image, 1, [10, 10, 20, 20])
        build.object(image, 1, [10, 10, 20, 20], area=2000.0)
        build.object(image, 1, [14, 10, 20, 20], iscrowd=1)
        for x in (12, 10, 40, 14, 10):
            build.found(image, 1, [x, 10, 20, 20])
    return build


@both_evaluators
@both_kinds
@pytest.mark.parametrize("make", [crowds, many, tiny, ties])
def test_corner_cases_are_as_the_reference_has_them(
    tmp_path: Path, kind: Kind, evaluator: Evaluator, make: Any
) -> None:
    build = make()
    ours = figures_of(evaluate_detections(build.write(tmp_path), build.rows, kind, evaluator=evaluator))
    assert 0 < (ours["ap"] or 0) < 1
    assert largest_difference(ours, reference(build.truth, build.rows, kind)) == 0


def sweep(folder: Path, seeds: range) -> float:
    """The largest difference of any figure, over both kinds and evaluators, all images and half of them."""
    largest = 0.0
    evaluators: list[Evaluator] = ["pycocotools", "hotcoco"] if find_spec("hotcoco") else ["pycocotools"]
    for seed in seeds:
        truth, rows = random_set(seed)
        ids = [image["id"] for image in truth["images"]]
        path = folder / "instances.json"
        path.write_text(json.dumps(truth))
        loaded = load_truth(path)
        kinds: list[Kind] = ["bbox", "segm"]
        for kind in kinds:
            for image_ids in (None, ids[::2]):
                theirs = reference(truth, rows, kind, image_ids)
                for evaluator in evaluators:
                    ours = evaluate_detections(loaded, rows, kind, image_ids=image_ids, evaluator=evaluator)
                    largest = max(largest, largest_difference(figures_of(ours), theirs))
    return largest


@pycocotools_warns
def test_random_sets_are_as_the_reference_has_them(tmp_path: Path) -> None:
    assert sweep(tmp_path, range(4)) <= 1e-9


@pytest.mark.slow
@pycocotools_warns
def test_many_random_sets_are_as_the_reference_has_them(tmp_path: Path) -> None:
    assert sweep(tmp_path, range(4, 100)) <= 1e-9


@both_evaluators
def test_ids_do_not_matter(tmp_path: Path, evaluator: Evaluator) -> None:
    """pycocotools takes the annotation 0 for "no match", and a repeated id for the same annotation."""
    build = ties()
    expected = reference(build.truth, build.rows, "bbox")
    for index, annotation in enumerate(build.truth["annotations"]):
        annotation["id"] = index // 2
    theirs = reference(build.truth, build.rows, "bbox")
    assert largest_difference(theirs, expected) > 0.01  # so the test can fail
    names: dict[int, int | str] = {1: -4, 2: 2**60, 3: "cat.jpg"}  # in the same order
    for row in (*build.truth["annotations"], *build.rows):
        row["image_id"] = names[row["image_id"]]
    for image in build.truth["images"]:
        image["id"] = names[image["id"]]
    ours = evaluate_detections(build.write(tmp_path), build.rows, "bbox", evaluator=evaluator)
    assert largest_difference(figures_of(ours), expected) == 0


@both_evaluators
@both_kinds
def test_chosen_images_are_a_data_set_of_their_own(tmp_path: Path, kind: Kind, evaluator: Evaluator) -> None:
    build = ties()
    build.object(2, 2, [0, 0, 10, 10])
    chosen = evaluate_detections(
        build.write(tmp_path), build.rows, kind, image_ids=[3, 1, 3], evaluator=evaluator
    )
    for rows in (build.truth["annotations"], build.rows):
        rows[:] = [row for row in rows if row["image_id"] != 2]
    build.truth["images"] = [image for image in build.truth["images"] if image["id"] != 2]
    alone = evaluate_detections(build.write(tmp_path, "b.json"), build.rows, kind, evaluator=evaluator)
    assert chosen == alone
    assert chosen.images == 2


@both_evaluators
def test_only_so_many_detections_count(tmp_path: Path, evaluator: Evaluator) -> None:
    build = many()
    build.rows = [row for row in build.rows if row["image_id"] == 2]
    path = build.write(tmp_path)
    ap = [
        evaluate_detections(path, build.rows, "bbox", image_ids=[2], max_detections=n, evaluator=evaluator).ap
        for n in (10, 120, 121)
    ]
    assert ap == [0.0, 0.0, pytest.approx(1 / 121)]
    with pytest.raises(ConfigError, match="expected 10 or more"):
        evaluate_detections(path, build.rows, "bbox", max_detections=9, evaluator=evaluator)


@both_evaluators
def test_files_and_loaded_truth_serve_alike_and_stay_as_they_are(
    tmp_path: Path, evaluator: Evaluator, capfd: pytest.CaptureFixture[str]
) -> None:
    build = crowds()
    path, results = build.write(tmp_path), tmp_path / "results.json"
    results.write_text(json.dumps(build.rows))
    loaded = load_truth(path)
    for row in build.rows:
        row["segmentation"]["counts"] = row["segmentation"]["counts"].encode()  # as pycocotools makes them
    before = copy.deepcopy(build.rows), copy.deepcopy(loaded.masks), loaded.boxes.copy()
    kinds: list[Kind] = ["segm", "bbox", "segm"]
    first = None
    for kind in kinds:
        shared = evaluate_detections(loaded, tuple(build.rows), kind, evaluator=evaluator)
        assert shared == evaluate_detections(str(path), results, kind, evaluator=evaluator)
        first = first or shared
    assert shared == first
    assert (build.rows, loaded.masks) == before[:2]
    assert (loaded.boxes == before[2]).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("counts", [encode(np.ones((300, 300)))["counts"], "#5", "", "5", [120 * 160]])
def test_run_lengths_that_do_not_fill_their_image_reach_no_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: object
) -> None:
    """An evaluator would answer with an AP, or never; it is not asked."""
    monkeypatch.setattr("resnest_zoo.evaluation.detection._prepare", lambda *_: pytest.fail("was asked"))
    build = crowds()
    good = build.rows[2]["segmentation"]
    build.rows[2]["segmentation"] = {**good, "counts": counts}
    with pytest.raises(DataError, match=r"result rows: entry 2 has .* whose runs fill that"):
        evaluate_detections(build.write(tmp_path), build.rows, "segm")
    build.rows[2]["segmentation"] = good
    short = [5] if isinstance(counts, list) else counts  # which the truth may hold as a list
    build.truth["annotations"][0]["segmentation"] = {**good, "counts": short}
    with pytest.raises(DataError, match=r"an annotation of image 1 has .* whose runs fill that"):
        evaluate_detections(build.write(tmp_path), build.rows, "segm")


def test_the_evaluator_is_the_fast_one_where_it_is_known_to_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows = one_box(tmp_path, [0, 0, 9, 9], [0, 0, 9, 9])
    hide_hotcoco(monkeypatch)
    assert evaluate_detections(path, rows, "bbox").evaluator == "pycocotools"
    with pytest.raises(ConfigError, match=r"pip install 'resnest-zoo\[verify\]'\), found none"):
        evaluate_detections(path, rows, "bbox", evaluator="hotcoco")
    hide_hotcoco(monkeypatch, "0.4.0")
    assert evaluate_detections(path, rows, "bbox").evaluator == "pycocotools"
    with pytest.raises(ConfigError, match=r"1\.3 or later is needed .* found 0\.4\.0"):
        evaluate_detections(path, rows, "bbox", evaluator="hotcoco")


def test_the_installed_fast_evaluator_is_chosen(tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    path, rows = one_box(tmp_path, [0, 0, 9, 9], [0, 0, 9, 9])
    assert evaluate_detections(path, rows, "bbox").evaluator == "hotcoco"


def test_unknown_kinds_and_evaluators_are_refused(tmp_path: Path) -> None:
    path, rows = one_box(tmp_path, [0, 0, 9, 9], [0, 0, 9, 9])
    with pytest.raises(ConfigError, match="kind: expected bbox or segm, got 'mask'"):
        evaluate_detections(path, rows, "mask")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="evaluator: expected auto, hotcoco or pycocotools, got 'fast'"):
        evaluate_detections(path, rows, "bbox", evaluator="fast")  # type: ignore[arg-type]


@both_evaluators
def test_ap_is_that_of_the_plain_loop(tmp_path: Path, evaluator: Evaluator) -> None:
    build = scattered(20, seed=5)
    found = evaluate_detections(build.write(tmp_path), build.rows, "bbox", evaluator=evaluator)
    assert 0.1 < naive_ap(build.truth, build.rows) < 0.6
    assert found.ap == pytest.approx(naive_ap(build.truth, build.rows), abs=1e-12)


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_a_truth_of_masks_alone_scores_masks(tmp_path: Path, evaluator: Any) -> None:
    build = Builder()
    build.image(1)
    build.object(1, 1, [10, 20, 30, 40])
    build.object(1, 2, [60, 20, 30, 40])
    build.found(1, 1, [10, 20, 30, 40], 0.9)
    build.found(1, 2, [62, 20, 30, 40], 0.8)
    with_boxes = evaluate_detections(build.write(tmp_path), build.rows, "segm", evaluator=evaluator)
    for row in build.truth["annotations"]:
        del row["bbox"]
    path = build.write(tmp_path)
    assert evaluate_detections(path, build.rows, "segm", evaluator=evaluator) == with_boxes
    assert 0 < (with_boxes.ap or 0) < 1
    with pytest.raises(DataError, match="2 of 2 entries lack 'bbox'"):
        evaluate_detections(path, build.rows, "bbox", evaluator=evaluator)
