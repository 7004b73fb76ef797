from __future__ import annotations

import json
import logging
import math

import pytest

from resnest_zoo.annotations.tables import (
    SegmentInfo,
    category_names,
    flag,
    image_id_of,
    number_anew,
    picture_size,
    read_json,
    read_segments,
    read_tables,
    report_strays,
    whole_number,
)
from resnest_zoo.errors import DataError


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((7, 7), (7.0, 7), (-3.0, -3), (0, 0), (10**30, 10**30), (7.5, None), (1e17, None), (True, None)),
        *((math.nan, None), (math.inf, None), ("7", None), (None, None), ([7], None)),
    ],
)
def test_whole_numbers_may_be_written_as_floats(value, number):
    found = whole_number(value)
    assert (found, type(found)) == (number, type(number))
    assert image_id_of(value) == ("7" if value == "7" else number)


@pytest.mark.parametrize(
    ("value", "meaning"), [(0, False), (1, True), (0.0, False), (True, True), (False, False)]
)
def test_flags_are_0_1_true_and_false(value, meaning):
    assert flag(value) is meaning


@pytest.mark.parametrize("value", ["0", "1", "", "false", None, 2, -1, 0.5, math.nan, [], [0]])
def test_nothing_else_is_a_flag(value):
    assert flag(value) is None


@pytest.mark.parametrize(
    ("row", "size"),
    [
        ({"height": 480, "width": 640.0}, (480, 640)),
        ({"height": 0, "width": 640.5}, (0, 0)),
        ({"height": "480", "width": True}, (0, 0)),
        ({"height": 2**31}, (0, 0)),
    ],
)
def test_sizes_are_whole_numbers_from_1(row, size):
    assert picture_size(row) == size


def test_tables_have_whole_ids(tmp_path):
    rows = [{"id": 1.0, "image_id": 2.0, "category_id": 3.0, "area": 4.0}, {"id": "a", "image_id": 1.5}]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": rows, "info": 1}))
    (first, second) = read_tables(tmp_path / "a.json", "annotations")["annotations"]
    assert json.dumps(first) == '{"id": 1, "image_id": 2, "category_id": 3, "area": 4.0}'
    assert second == rows[1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' * 100_000, "nested too deep"),
        ("[]", "expected a list of objects under 'images', got a list of 0"),
        ('{"info": 1}', "under 'images', got an object with info"),
        ('{"images": [1, 2]}', "under 'images', got a list of 2 there"),
        ('{"images": {"a": 1}}', "under 'images', got an object with a there"),
    ],
)
def test_what_is_no_file_of_coco_is_one_error(tmp_path, text, complaint):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=complaint) as caught:
        read_tables(tmp_path / "a.json", "images")
    assert str(tmp_path / "a.json") in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: cannot be read: No such file"):
        read_json(tmp_path / "gone.json")


def test_categories_by_rising_id_and_two_of_one_name():
    rows = [{"id": 7, "name": "cube"}, {"id": 2, "name": "ball"}, {"id": 4, "name": "ball"}]
    assert list(category_names(rows, "a").items()) == [(2, "ball"), (4, "ball"), (7, "cube")]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": "1", "name": "a"}, "a.json: categories need a whole number as 'id'"),
        ({"id": True, "name": "a"}, "categories need a whole number as 'id'"),
        ({"id": 1}, "a text as 'name'"),
        ({"id": 2, "name": "cone"}, "'ball' and 'cone' have the same id 2"),
    ],
)
def test_wrong_categories_are_refused(row, complaint):
    with pytest.raises(DataError, match=complaint):
        category_names([{"id": 2, "name": "ball"}, row], "a.json")


def test_segments_of_panoptic_annotations():
    rows = [{"id": 3.0, "category_id": 4}, {"id": 5, "category_id": 6.0, "iscrowd": True}]
    assert read_segments({"segments_info": rows}) == [SegmentInfo(3, 4, False), SegmentInfo(5, 6, True)]
    for bad in (None, 3, [3], [{"id": "3", "category_id": 4}], [{"id": 3}], [{**rows[0], "iscrowd": "0"}]):
        assert read_segments({"segments_info": bad}) is None


def test_ids_that_repeat_are_numbered_by_place_and_others_stay():
    rows = [{"id": 5}, {"id": 3}, {}]
    assert number_anew(rows) == 0
    assert rows == [{"id": 5}, {"id": 3}, {}]
    rows += [{"id": 5}, {"id": [5]}]
    assert number_anew(rows) == 1
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]


def test_strays_are_counted_and_all_strays_an_error(caplog):
    with caplog.at_level(logging.WARNING):
        report_strays("a.json", [], 0, [1])
        assert caplog.text == ""
        report_strays("a.json", [9, 9], 3, [1])
    assert "a.json: 2 of 3 annotations belong to no picture of the file" in caplog.text
    expected = "3 of 3 annotations belong to no picture.*such as '1', the ids of its 2 pictures are such as 1"
    with pytest.raises(DataError, match=expected):
        report_strays("a.json", ["1", "2", "2"], 3, [1, 2])


def test_a_text_among_numbers_is_told_of_strays_too(caplog):
    report_strays("a.json", [7], 3, ["7", 8])
    assert "there '7' is a text, and here 7 a number, which is another id; these are left out" in caplog.text
