from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
import torch

from resnest_zoo.categories import Categories
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.data.dataset import Dataset, Record
from resnest_zoo.data.panoptic import SegmentMap
from resnest_zoo.errors import DataError
from tests.data.small_set import SmallSet, annotation, triangle


def read(small_set: SmallSet, **options) -> Dataset:
    return read_dataset(small_set.write(), small_set.images, **options)


def refusal(small_set: SmallSet, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(small_set, **options)
    return str(caught.value)


def passed_over(small_set: SmallSet, caplog: pytest.LogCaptureFixture, **options) -> Dataset:
    """Read with `skip_bad`; what is logged must be the report of the refusal."""
    report = refusal(small_set, **options).partition("\n")[2]
    with caplog.at_level(logging.WARNING):
        dataset = read(small_set, skip_bad=True, **options)
    assert report in caplog.text
    return dataset


def test_a_good_file(small_set):
    small_set.data["annotations"] += [annotation(9, 3, category_id=7), annotation(8, 3, iscrowd=1)]
    dataset = read(small_set, masks=True)
    assert len(dataset) == 4
    assert dataset.categories == Categories(("ball", "cone", "cube"), (2, 4, 7))
    assert dataset.sizes.tolist() == [[40, 60], [50, 30], [30, 64], [44, 44]]
    box, polygons = [5.0, 6.0, 20.0, 20.0], [triangle(5, 6, 20)]
    expected = Record(small_set.images / "3.png", 3, (30, 64), [box, box], [0, 2], [polygons, polygons])
    assert dataset[2] == expected
    assert list(dataset)[2] == expected


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("nothing", [None, []])
def test_boxes_alone_are_no_data_for_masks(small_set, nothing, skip_bad):
    for row in small_set.data["annotations"]:
        row["segmentation"] = nothing
    expected = "expected annotations with a segmentation.*got 4 without.*MODEL.MASK_ON False"
    with pytest.raises(DataError, match=expected):
        read(small_set, masks=True, skip_bad=skip_bad)
    assert read(small_set)[0].boxes


def test_numbers_survive_to_the_last_digit(small_set):
    box = [0.1 + 0.2, math.pi, 1e-7, 17 / 3]
    points = np.random.default_rng(0).uniform(0, 30, 100).tolist()
    small_set.data["annotations"][0].update(bbox=box, segmentation=[points])
    record = read(small_set, masks=True)[0]
    assert record.boxes == [box]
    assert record.segmentations == [[points]]


def test_pictures_stand_by_id_and_annotations_as_in_the_file(small_set):
    rows = small_set.data["images"]
    rows[0]["id"], rows[1]["id"], rows[2]["id"] = 30, "b", "a"
    small_set.data["annotations"] = [annotation(k, i) for k, i in enumerate(["b", 30, "a", 4, 30])]
    small_set.data["annotations"][4]["category_id"] = 4
    dataset = read(small_set)
    assert [record.image_id for record in dataset] == [4, 30, "a", "b"]
    assert dataset[1].classes == [0, 1]


def test_classes_follow_the_categories_given(small_set, caplog):
    things = Categories(("cone", "ball"), (4, 2))
    assert read(small_set, categories=things)[0].classes == [1]
    assert "other names" not in caplog.text
    read(small_set, categories=Categories(("ball", "cone"), (4, 2)))
    assert "other names there: 4 is 'cone', not 'ball'; 2 is 'ball', not 'cone'" in caplog.text


def test_pictures_without_annotations(small_set):
    small_set.data["annotations"][1]["iscrowd"] = 1
    del small_set.data["annotations"][2]
    assert [record.image_id for record in read(small_set)] == [1, 4]
    dataset = read(small_set, filter_empty=False, masks=True)
    assert [len(record.boxes) for record in dataset] == [1, 0, 0, 1]
    assert dataset[1] == Record(small_set.images / "2.png", 2, (50, 30), [], [], [])
    small_set.data["annotations"] = []
    assert "no picture with annotations is left" in refusal(small_set)
    small_set.data["images"] = []
    assert "no picture is left" in refusal(small_set, filter_empty=False)


def test_without_masks_segmentations_are_neither_kept_nor_checked(small_set):
    small_set.data["annotations"][0]["segmentation"] = "nonsense"
    del small_set.data["annotations"][1]["segmentation"]
    assert [record.segmentations for record in read(small_set)] == [None] * 4
    assert "problems: 2" in refusal(small_set, masks=True)


def test_encodings_are_kept_as_they_are(small_set):
    rle = {"size": [40, 60], "counts": [100, 2300]}
    small_set.data["annotations"][0]["segmentation"] = rle
    assert read(small_set, masks=True)[0].segmentations == [rle]


# What is changed in the annotation of picture 1, which is 60 wide and 40 high, and the kind of problem.
BAD = [
    ({"bbox": [5, 5, 0, 9]}, "without width or height"),
    ({"bbox": [5, 5, 9, -1]}, "without width or height"),
    ({"bbox": [60, 5, 9, 9]}, "outside their picture"),
    ({"bbox": [5, -9, 9, 9]}, "outside their picture"),
    ({"bbox": [5, 5, 9]}, "not four finite numbers"),
    ({"bbox": [5, 5, 9, None]}, "not four finite numbers"),
    ({"bbox": [5, 5, 9, "9"]}, "not four finite numbers"),
    ({"bbox": [5, 5, 9, math.nan]}, "not four finite numbers"),
    ({"bbox": [5, 5, math.inf, 9]}, "not four finite numbers"),
    ({"bbox": None}, "not four finite numbers"),
    ({"category_id": 3}, "category that is not in the list"),
    ({"category_id": None}, "without a picture's or a category's id"),
    ({"image_id": [1]}, "without a picture's or a category's id"),
    ({"iscrowd": "0"}, "whose iscrowd is not 0, 1, true or false"),
    ({"iscrowd": None}, "whose iscrowd is not 0, 1, true or false"),
    ({"ignore": 1}, 'marked "ignore"'),
    ({"segmentation": []}, "without a segmentation"),
    ({"segmentation": None}, "without a segmentation"),
    ({"segmentation": [[1, 2, 3, 4]]}, "six finite numbers"),
    ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "six finite numbers"),
    ({"segmentation": triangle(5, 5, 9)}, "six finite numbers"),
    ({"segmentation": "text"}, "six finite numbers"),
    ({"segmentation": 5}, "six finite numbers"),
    ({"segmentation": True}, "six finite numbers"),
    ({"segmentation": math.nan}, "six finite numbers"),
    ({"segmentation": [math.inf]}, "six finite numbers"),
    ({"segmentation": [triangle(5, math.nan, 9)]}, "six finite numbers"),
    ({"segmentation": [["5", "5", "9", "5", "9", "9"]]}, "six finite numbers"),
    ({"segmentation": {"size": [40, 60], "counts": [2399]}}, "does not fill their picture"),
    ({"segmentation": {"size": [60, 40], "counts": [2400]}}, "does not fill their picture"),
    ({"segmentation": {"counts": "T"}}, "does not fill their picture"),
]


@pytest.mark.parametrize(("changes", "kind"), BAD)
def test_a_bad_annotation_is_refused_or_left_out(small_set, caplog, changes, kind):
    first, *others = small_set.data["annotations"]
    small_set.data["annotations"] = [*others, first | changes]
    message = refusal(small_set, masks=True)
    assert "problems: 1)" in message
    assert kind in message
    assert f"{changes.get('id', 101)} (picture {changes.get('image_id', 1)})" in message
    dataset = passed_over(small_set, caplog, masks=True)
    assert [record.image_id for record in dataset] == [2, 3, 4]


@pytest.mark.parametrize(
    "box", [[-1, -0.5, 62, 41], [0, 0, 60.01, 40.4], [59.5, 39.5, 1, 1], [-1, 5, 1.01, 5]]
)
def test_boxes_that_pass_the_border_by_rounding_are_good(small_set, box):
    small_set.data["annotations"][0]["bbox"] = box
    assert read(small_set)[0].boxes == [box]


@pytest.mark.parametrize("box", [[-1.1, 0, 9, 9], [0, -3, 9, 9], [0, 0, 61.5, 9], [30, 20, 55, 35]])
def test_boxes_that_pass_it_further_are_refused_or_kept(small_set, caplog, box):
    """As when (x0, y0, x1, y1) is taken for (x, y, width, height). Samples cut them, as detectron2 does."""
    small_set.data["annotations"][0]["bbox"] = box
    assert "pass their picture's border by more than a pixel: 101 (picture 1)" in refusal(small_set)
    assert passed_over(small_set, caplog)[0].boxes == [box]


def test_of_several_polygons_only_the_bad_ones_are_left_out(small_set, caplog):
    good = triangle(5, 6, 20)
    small_set.data["annotations"][0]["segmentation"] = [[1, 2], good, [1.0] * 7]
    assert passed_over(small_set, caplog, masks=True)[0].segmentations == [[good]]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"file_name": "gone.png"}, "file is missing: 1 (gone.png)"),
        ({"file_name": "sub/1.png"}, "file is missing: 1 (sub/1.png); there is '1.png'"),
        ({"file_name": "train\\1.png"}, "file is missing: 1 (train\\1.png); there is '1.png'"),
        ({"file_name": "%31.png"}, "file is missing: 1 (%31.png); there is '1.png'"),
        ({"file_name": ""}, "size of at least 1 x 1: 1 ()"),
        ({"file_name": None}, "size of at least 1 x 1"),
        ({"id": None}, "size of at least 1 x 1: None (1.png)"),
        ({"height": 0}, "size of at least 1 x 1"),
        ({"width": None}, "size of at least 1 x 1"),
        ({"width": 60.5}, "size of at least 1 x 1"),
        ({"width": math.inf}, "size of at least 1 x 1"),
        ({"width": "60"}, "size of at least 1 x 1"),
        ({"id": 2}, "whose id an earlier picture has: 2 (1.png)"),
    ],
)
def test_a_bad_picture_is_refused_or_left_out(small_set, caplog, changes, kind):
    first, *others = small_set.data["images"]
    small_set.data["images"] = [*others, first | changes]
    message = refusal(small_set)
    assert kind in message
    assert "problems: 1)" in message
    dataset = passed_over(small_set, caplog)
    assert [record.file.name for record in dataset] == ["2.png", "3.png", "4.png"]


def test_sizes_written_as_floats_count(small_set):
    small_set.data["images"][0].update(height=40.0, width=60.0)
    assert read(small_set)[0].size == (40, 60)


def test_everything_bad_is_told_at_once_and_the_first_ten_by_name(small_set):
    small_set.data["images"][3]["file_name"] = "gone.png"
    flat = [annotation(k, 1, bbox=[1, 1, 0, 5], category_id=99) for k in range(1, 13)]
    small_set.data["annotations"] += flat
    message = refusal(small_set)
    assert "annotations.json: bad pictures or annotations (problems: 25)" in message.splitlines()[0]
    names = ", ".join(f"{k} (picture 1)" for k in range(1, 11))
    of_99 = ", ".join(f"{k} (picture 1): 99" for k in range(1, 11))
    assert message.splitlines()[1:] == [
        "  1 × pictures whose file is missing: 4 (gone.png) (left out)",
        f"  12 × annotations of a category that is not in the list: {of_99}, and 2 more (left out)",
        f"  12 × boxes without width or height: {names}, and 2 more (left out)",
    ]


def test_names_that_are_no_names_are_cut(small_set):
    small_set.data["images"][0]["file_name"] = "x" * 10_000
    assert len(refusal(small_set)) < 1000


def test_crowds_are_not_checked_further(small_set):
    rle = {"size": [1, 1], "counts": "?"}
    small_set.data["annotations"].append(annotation(1, 1, iscrowd=1, bbox=[0, 0, 0, 0], segmentation=rle))
    assert len(read(small_set, masks=True)) == 4


def test_annotations_of_pictures_that_the_file_does_not_list_are_counted(small_set, caplog):
    """A file cut down to some pictures often keeps all annotations."""
    small_set.data["images"] = small_set.data["images"][:2]
    assert len(read(small_set)) == 2
    assert "2 of 4 annotations belong to no picture" in caplog.text


@pytest.mark.parametrize("filter_empty", [False, True])
def test_annotations_that_all_belong_to_no_picture_are_refused(small_set, filter_empty):
    for row in small_set.data["annotations"]:
        row["image_id"] = str(row["image_id"])
    message = refusal(small_set, filter_empty=filter_empty)
    assert "4 of 4 annotations belong to no picture" in message
    assert "such as '1', the ids of its 4 pictures are such as 1." in message


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("ids", [[1, 1, 2, 1], [1, 1, 1, 1], ["a", "a", 2, "a"]])
def test_annotation_ids_that_repeat_are_renumbered_and_nothing_is_lost(small_set, caplog, ids, skip_bad):
    whole = read(small_set, masks=True)
    for row, number in zip(small_set.data["annotations"], ids, strict=True):
        row["id"] = number
    assert list(read(small_set, masks=True, skip_bad=skip_bad)) == list(whole)
    repeated = len(ids) - len(set(ids))
    assert (
        f"{repeated} of 4 annotations have an id that an earlier one has; all are renumbered" in caplog.text
    )
    small_set.data["annotations"][2]["bbox"] = [5, 5, 0, 9]
    assert "without width or height: 3 (picture 3)" in refusal(small_set, masks=True)


def test_ids_written_as_floats_count(small_set):
    whole = read(small_set, masks=True)
    for table in ("images", "annotations", "categories"):
        for row in small_set.data[table]:
            row |= {key: float(row[key]) for key in ("id", "image_id", "category_id") if key in row}
    found = read(small_set, masks=True)
    assert list(found) == list(whole)
    assert found.categories == whole.categories
    assert [type(record.image_id) for record in found] == [int] * 4


@pytest.mark.parametrize(("value", "left"), [(0, 4), (False, 4), (1, 3), (True, 3)])
def test_crowds_are_marked_by_0_1_true_or_false(small_set, value, left):
    small_set.data["annotations"][0]["iscrowd"] = value
    assert len(read(small_set)) == left


def test_crowds_and_classes_left_without_example_are_told(small_set, caplog):
    """Some tools mark every mask of two parts as a crowd, so that whole classes vanish."""
    small_set.data["annotations"] += [annotation(k, 1, category_id=7, iscrowd=1) for k in (5, 6)]
    assert len(read(small_set)) == 4
    assert "2 of 6 annotations are crowds (iscrowd 1), which training leaves out" in caplog.text
    lacking = "cone, cube (2 annotations, 2 of them crowds)"
    assert f"no example is left of 2 of 3 classes: {lacking}" in caplog.text


@pytest.mark.parametrize("filter_empty", [False, True])
def test_nothing_but_crowds_is_refused(small_set, filter_empty):
    for row in small_set.data["annotations"]:
        row["iscrowd"] = 1
    message = refusal(small_set, filter_empty=filter_empty)
    assert message.endswith("no picture with annotations is left: 4 of 4 annotations are crowds (iscrowd 1)")
    small_set.data["annotations"][0] |= {"iscrowd": 0, "bbox": [1, 1, 0, 0]}
    with pytest.raises(DataError, match=r"3 of 4 annotations are crowds .*none of the others can be used"):
        read(small_set, filter_empty=filter_empty, skip_bad=True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ('{"images": [', "is not JSON"),
        ("[]", "list of objects under 'images'"),
        ('{"images": [], "annotations": {}, "categories": []}', "list of objects under 'annotations'"),
        ('{"images": [], "annotations": [1], "categories": []}', "list of objects under 'annotations'"),
        ('{"images": [], "annotations": []}', "list of objects under 'categories'"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": "1", "name": "a"}]}',
            "whole number as 'id'",
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "a text as 'name'"),
    ],
)
def test_a_file_in_another_layout(tmp_path, text, complaint):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_dataset(tmp_path / "a.json", tmp_path)


def test_what_is_missing_and_repeated_categories(tmp_path, small_set):
    with pytest.raises(DataError, match=r"a\.json: cannot be read: No such file"):
        read_dataset(tmp_path / "a.json", tmp_path)
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        read_dataset(small_set.write(), tmp_path / "nowhere")
    small_set.data["categories"][0]["id"] = 2
    with pytest.raises(DataError, match="'cube' and 'ball' have the same id 2"):
        read(small_set)


def test_panoptic_annotations(small_set):
    files = small_set.write_panoptic()
    dataset = read(small_set, panoptic=files)
    expected = Categories(("ball", "cone", "cube"), (2, 4, 7), ("things", "grass", "sky"), (0, 91, 95))
    assert dataset.categories == expected
    assert dataset[3].segment_map == SegmentMap(files.folder / "4.png", ((70000, 0), (3, 1)))
    with pytest.raises(DataError, match="none"):
        read(small_set, panoptic=files, categories=Categories(expected.things, expected.thing_ids))


def test_pictures_without_panoptic_annotation_are_refused_or_left_out(small_set, caplog):
    data = small_set.panoptic_data()
    del data["annotations"][0]
    data["annotations"][1]["file_name"] = "gone.png"
    files = small_set.write_panoptic(data)
    message = refusal(small_set, panoptic=files)
    assert "1 × pictures without a panoptic annotation: 1 (1.png)" in message
    assert "1 × pictures whose panoptic file is missing: 3 (gone.png)" in message
    assert "problems: 2" in message
    dataset = passed_over(small_set, caplog, panoptic=files)
    assert [record.image_id for record in dataset] == [2, 4]


def test_records_are_reached_by_number(small_set):
    dataset = read(small_set)
    for number in (-1, 4):
        with pytest.raises(IndexError, match=f"record {number} of 4"):
            dataset[number]


def test_a_record_takes_little_more_than_its_text(small_set):
    """A thousand pictures of ten polygons: no object of Python for each of 200,000 numbers."""
    points = np.random.default_rng(0).uniform(0, 30, 20).round(2).tolist()
    record = Record(small_set.images / "1.png", 1, (40, 60), [[1.5, 2, 3, 4]] * 10, [1] * 10, [[points]] * 10)
    dataset = Dataset(Categories(("ball",), (2,)), (record for _ in range(1000)))
    held = [value for value in vars(dataset).values() if isinstance(value, torch.Tensor)]
    assert len(vars(dataset)) == len(held) + 2  # the categories, and what is left out
    text = len(json.dumps([record.boxes, record.segmentations])) * 1000
    assert sum(tensor.nbytes for tensor in held) < text + 200_000
    assert dataset[999] == record
