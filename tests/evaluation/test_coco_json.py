"""What is wrong with a ground truth or with results is said once and clearly."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnest_zoo.errors import DataError
from resnest_zoo.evaluation.coco_json import load_truth, read_rows
from tests.evaluation.detection_sets import Builder, encode, run_lengths


def small_set() -> Builder:
    build = Builder(categories=(5, 2), size=(20, 30))
    for image in (7, 3):
        build.image(image)
    build.object(7, 5, [1, 2, 3, 4])
    build.object(3, 2, [5, 6, 7, 8], iscrowd=1)
    build.found(3, 2, [5, 6, 7, 8], 0.75)
    build.found(7, 2, [1, 1, 2, 2], 0.5)
    return build


def test_a_truth_is_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    truth = load_truth(small_set().write(tmp_path))
    assert (truth.image_ids, truth.category_ids) == ((3, 7), (2, 5))
    assert truth.sizes.tolist() == [[20, 30], [20, 30]]
    assert (truth.images.tolist(), truth.categories.tolist()) == ([1, 0], [1, 0])
    assert truth.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (truth.areas.tolist(), truth.crowd.tolist()) == ([12, 56], [False, True])
    assert truth.masks[0] == encode(np.pad(np.ones((4, 3)), ((2, 14), (1, 26))))


def test_rows_are_read_in_the_callers_order(tmp_path: Path) -> None:
    build = small_set()
    truth = load_truth(build.write(tmp_path))
    for masks in (False, True):
        rows = read_rows(build.rows, truth, masks=masks)
        assert (rows.images.tolist(), rows.categories.tolist()) == ([0, 1], [0, 0])
        assert rows.scores.tolist() == [0.75, 0.5]
        assert rows.boxes.tolist() == ([[0] * 4] * 2 if masks else [[5, 6, 7, 8], [1, 1, 2, 2]])
        assert rows.masks == ([row["segmentation"] for row in build.rows] if masks else None)


def test_chosen_images_count_from_0(tmp_path: Path) -> None:
    build = small_set()
    truth = load_truth(build.write(tmp_path))
    positions = truth.positions([7, 7])
    part, rows = truth.at(positions), read_rows(build.rows, truth, masks=True).at(positions, 2)
    assert (part.image_ids, part.images.tolist(), part.areas.tolist()) == ((7,), [0], [12])
    assert (part.masks, rows.masks) == (truth.masks[:1], [build.rows[1]["segmentation"]])
    assert (rows.images.tolist(), rows.scores.tolist()) == ([0], [0.5])
    for ids, complaint in (([], "no image to evaluate"), ([3, 4], "1 of 2 entries are of an image")):
        with pytest.raises(DataError, match=complaint):
            truth.positions(ids)


def test_numbers_stand_before_texts_and_what_may_be_missing_is(tmp_path: Path) -> None:
    build = Builder(categories=(1,), size=(20, 30))
    for image in ("b", 10, "a", 9):
        build.image(image)
    build.object("a", 1, [0, 0, 2, 2])
    del build.truth["annotations"][0]["iscrowd"], build.truth["annotations"][0]["segmentation"]
    build.truth["images"][0] |= {"height": 480.0, "width": 640}
    build.truth["images"][1] = {"id": 10}
    truth = load_truth(build.write(tmp_path))
    assert truth.image_ids == (9, 10, "a", "b")
    assert truth.sizes.tolist() == [[20, 30], [0, 0], [20, 30], [480, 640]]
    assert (truth.crowd.tolist(), truth.masks) == ([False], [None])


def test_annotations_of_unlisted_images_are_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build = small_set()
    build.object(99, 2, [0, 0, 1, 1])
    with caplog.at_level(logging.WARNING, "resnest_zoo"):
        truth = load_truth(build.write(tmp_path))
    assert len(truth.images) == len(truth.masks) == 2
    assert "1 of 3 annotations belong to no picture of the file" in caplog.text


def test_crowds_are_counted_and_classes_without_object_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth = load_truth(small_set().write(tmp_path))
    truth.check_objects()
    assert "1 of 2 annotations are crowds (iscrowd 1), which are neither to be found" in caplog.text
    assert "1 of 2 classes have no object that counts, and no figure: class 2" in caplog.text
    build = small_set()
    build.truth["annotations"][0]["iscrowd"] = True
    with pytest.raises(DataError, match=r"nothing to measure: 2 of 2 annotations are crowds \(iscrowd 1\)"):
        load_truth(build.write(tmp_path)).check_objects()


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda t: t.pop("annotations"),
            "expected a list of objects under 'annotations', got an object with images, categories",
        ),
        (lambda t: t["annotations"].clear(), "its list of annotations is empty"),
        (lambda t: t["images"].clear(), "its list of images is empty"),
        (
            lambda t: [row.pop("area") for row in t["annotations"]],
            "2 of 2 entries lack 'area'; .* pixels of the mask, or width times height of the box",
        ),
        (lambda t: t["annotations"][1].update(area=-1), r"entry 1 has -1; expected area.*\(wrong: 1 of 2\)"),
        (
            lambda t: t.update(annotations=[{"image_id": 3, "segments_info": [], "file_name": "3.png"}]),
            "lack 'category_id'; the first is an object with image_id, segments_info, file_name",
        ),
        (lambda t: t["annotations"].append("text"), "objects under 'annotations', got a list of 3 there"),
        (lambda t: t["annotations"][0].update(category_id=1), "1 of 2 entries are of a category .* have: 1;"),
        (lambda t: t["annotations"][0].update(category_id=[]), r"are of a category .* have: \[\];"),
        (
            lambda t: t["annotations"][1].update(bbox=[1, 2, 3]),
            r"entry 1 has \[1, 2, 3\]; expected bbox \[x, y",
        ),
        (lambda t: t["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "entry 0 has .*nan.*4 finite"),
        (lambda t: t["annotations"][0].update(bbox=[0, 0, 1e200, 1]), "entry 0 has .*expected bbox"),
        (lambda t: t["annotations"][0].update(area=None), "entry 0 has None; expected area, a finite number"),
        (lambda t: t["annotations"][0].update(area="12"), "entry 0 has '12'; expected area"),
        (lambda t: t["annotations"][0].update(iscrowd=2), "entry 0 has 2; expected iscrowd, which is 0, 1"),
        (lambda t: t["images"][0].update(id=3), "images: 1 ids are repeated"),
        (lambda t: t["images"][0].update(id=1.5), "images: expected whole numbers or texts as ids, got 1.5"),
        (
            lambda t: t["images"][0].update(id=True),
            "images: expected whole numbers or texts as ids, got True",
        ),
        (lambda t: t["categories"][0].update(id="cat"), "categories need a whole number as 'id'"),
        (lambda t: t["categories"][0].update(id=2), "'class 2' have the same id 2"),
        (
            lambda t: t["annotations"][0].update(iscrowd="0"),
            "entry 0 has '0'; expected iscrowd, which is 0, 1",
        ),
        (lambda t: t["annotations"][0].update(iscrowd=None), r"entry 0 has None; .*\(wrong: 1 of 2\)"),
        (lambda t: t["annotations"][0].update(category_id=True), "are of a category .* have: True;"),
        (
            lambda t: [row.update(image_id=str(row["image_id"])) for row in t["annotations"]],
            "2 of 2 annotations belong to no picture of the file: their image_id is such as '7'",
        ),
        (lambda t: t["images"][0].pop("id"), "images: 1 of 2 entries lack 'id'"),
    ],
)
def test_a_wrong_truth_is_refused(tmp_path: Path, change: Change, complaint: str) -> None:
    build = small_set()
    change(build.truth)
    path = build.write(tmp_path)
    with pytest.raises(DataError, match=complaint) as caught:
        load_truth(path)
    assert str(path) in str(caught.value)


def test_boxes_are_asked_for_where_they_are_measured(tmp_path: Path) -> None:
    build = small_set()
    build.truth["annotations"][1].pop("bbox")
    truth = load_truth(build.write(tmp_path))
    truth.check_masks()
    assert truth.boxes[0].tolist() == [1, 2, 3, 4]
    assert np.isnan(truth.boxes[1]).all()
    with pytest.raises(
        DataError, match=r"instances\.json, annotations: 1 of 2 entries lack 'bbox'; the first is of image 3"
    ):
        truth.check_boxes()
    truth.of_categories([5]).check_boxes()


@pytest.mark.parametrize("many", [False, True])
def test_an_id_as_a_text_beside_one_as_a_number_is_told(tmp_path: Path, many: bool) -> None:
    truth = load_truth(small_set().write(tmp_path))
    rows = small_set().rows
    for row in rows if many else rows[:1]:
        row["image_id"] = str(row["image_id"])
    with pytest.raises(
        DataError, match=r"have: '3'.*; there 3 is a number, and here '3' a text, which is another id$"
    ):
        read_rows(rows, truth, masks=False)
    rows[0]["image_id"], rows[0]["category_id"] = 3, "2"
    with pytest.raises(DataError, match=r"a category .* have: '2'; there 2 is a number, and here '2' a text"):
        read_rows(rows[:1], truth, masks=False)
    build = small_set()
    for image in build.truth["images"]:
        image["id"] = str(image["id"])
    for row in build.truth["annotations"]:
        row["image_id"] = str(row["image_id"])
    truth = load_truth(build.write(tmp_path))
    with pytest.raises(
        DataError, match="have: 3, 7; there '3' is a text, and here 3 a number, which is another id"
    ):
        read_rows(small_set().rows, truth, masks=False)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not JSON"),
        (b'{"images": [', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "objects under 'images', got a list of 0"),
        (b"3", "objects under 'images', got 3"),
        (b"{}", "got an object with nothing"),
    ],
)
def test_a_file_that_is_no_truth_is_refused(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "truth.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        load_truth(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda t: t["images"][1].pop("height"),
            "masks need `height` and `width` of every image, not so for 3",
        ),
        (
            lambda t: t["annotations"][0].pop("segmentation"),
            "image 7 has the segmentation None; expected poly",
        ),
        (lambda t: t["annotations"][0].update(segmentation=[]), r"has the segmentation \[\]"),
        (lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "expected polygons of 3 points"),
        (lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "expected polygons"),
        (lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, "x"]]), "expected polygons"),
        (lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, float("inf")]]), "expected poly"),
        (lambda t: t["annotations"][0].update(segmentation="1 2"), "has the segmentation '1 2'"),
        (
            lambda t: t["annotations"][0].update(segmentation={"size": [20, 30]}),
            "run-length encoding of size",
        ),
        (
            lambda t: t["annotations"][0].update(segmentation=encode(np.ones((30, 20)))),
            r"run-length encoding of size \[20, 30\]",
        ),
    ],
)
def test_a_truth_without_fit_masks_serves_boxes_only(tmp_path: Path, change: Change, complaint: str) -> None:
    build = small_set()
    change(build.truth)
    truth = load_truth(build.write(tmp_path))
    with pytest.raises(DataError, match=complaint):
        truth.check_masks()


def test_all_three_spellings_of_masks_are_fit(tmp_path: Path) -> None:
    build = small_set()
    build.truth["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5.5], [2, 2, 3, 3, 4, 4, 2, 4]]
    build.truth["annotations"][1]["segmentation"] = run_lengths(np.ones((20, 30)))
    build.object(3, 2, [0, 0, 2, 2])
    load_truth(build.write(tmp_path)).check_masks()


@pytest.mark.parametrize(
    ("masks", "change", "complaint"),
    [
        (
            False,
            lambda r: r[0].update(image_id=4),
            "result rows: 1 of 2 entries are of an image .* have: 4;",
        ),
        (False, lambda r: r[0].update(image_id="3"), "are of an image .* have: '3';"),
        (False, lambda r: r[0].update(image_id=[3]), r"are of an image .* have: \[3\];"),
        (
            False,
            lambda r: r.extend({**r[0], "category_id": 100 + i % 7} for i in range(20)),
            r"20 of 22 entries are of a category that .* have: 100, 101, 102, 103, 104 and 2 more; are they",
        ),
        (False, lambda r: r[1].pop("bbox"), "1 of 2 entries lack 'bbox'"),
        (True, lambda r: r[1].pop("segmentation"), "1 of 2 entries lack 'segmentation'"),
        (False, lambda r: r[1].pop("score"), "lack 'score'"),
        (False, lambda r: r[1].pop("image_id"), "lack 'image_id'"),
        (
            False,
            lambda r: r[1].update(score=float("nan")),
            "entry 1 has nan; expected score, a finite number",
        ),
        (False, lambda r: r[1].update(score=[0.5]), r"entry 1 has \[0.5\]; expected score"),
        (False, lambda r: r[1].update(bbox=[0, 0, 1]), r"entry 1 has \[0, 0, 1\]; expected bbox"),
        (False, lambda r: r[1].update(bbox=[0, 0, 1, float("inf")]), "entry 1 has .*inf.*; expected bbox"),
        (False, lambda r: r.append(7), "1 of 3 entries lack 'image_id'; the first is 7"),
        (
            True,
            lambda r: r[0].update(segmentation=[[1, 2, 3, 4, 5, 6]]),
            "entry 0 has .*compressed run-length",
        ),
        (
            True,
            lambda r: r[0].update(segmentation=run_lengths(np.ones((20, 30)))),
            "expected a compressed run-length encoding of size .20, 30., that of image 3",
        ),
        (True, lambda r: r[1].update(segmentation=encode(np.ones((30, 20)))), "that of image 7"),
    ],
)
def test_wrong_rows_are_refused(
    tmp_path: Path, masks: bool, change: Callable[[list[Any]], Any], complaint: str
) -> None:
    build = small_set()
    truth = load_truth(build.write(tmp_path))
    change(build.rows)
    with pytest.raises(DataError, match=complaint):
        read_rows(build.rows, truth, masks=masks)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "results.json: cannot be read"),
        ("[", "results.json: is not JSON"),
        (
            '{"images": [], "annotations": []}',
            "expected a list of result rows, got an object with images, anno",
        ),
        ("3", "results.json: expected a list of result rows, got 3"),
        ("[[1, 2]]", "results.json: 1 of 1 entries lack 'image_id'; the first is a list of 2"),
    ],
)
def test_a_file_that_is_no_list_of_rows_is_refused(
    tmp_path: Path, content: str | None, complaint: str
) -> None:
    truth = load_truth(small_set().write(tmp_path))
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=complaint):
        read_rows(path, truth, masks=False)


def test_rows_may_come_from_numpy_and_from_a_file(tmp_path: Path) -> None:
    build = small_set()
    truth = load_truth(build.write(tmp_path))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(build.rows))
    for row in build.rows:
        row |= {"image_id": np.int64(row["image_id"]), "score": np.float32(row["score"])}
        row["bbox"] = np.array(row["bbox"])
    given, filed = read_rows(build.rows, truth, masks=False), read_rows(path, truth, masks=False)
    assert given.boxes.tolist() == filed.boxes.tolist()
    assert (given.images.tolist(), given.scores.tolist()) == (filed.images.tolist(), filed.scores.tolist())
