"""COCO on the disk: every missing piece is named, with where to get it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.verify import datasets
from benchmarks.verify.datasets import DataMissingError, find_coco, find_test_dev
from resnest_zoo.categories import Categories
from resnest_zoo.registry import Reported, info, register
from tests.verify.mini_coco import MiniCoco
from tests.verify.runs import Verify, claim, forks

IMAGES, ANNOTATIONS = "http://images.cocodataset.org/zips", "http://images.cocodataset.org/annotations"
INSTANCES, SEGMENTS = "annotations/instances_val2017.json", "annotations/panoptic_val2017.json"


@pytest.fixture
def copy(coco: Path, tmp_path: Path) -> Path:
    """The mini data set, to be damaged; its pictures are links."""
    root = tmp_path / "copy"
    shutil.copytree(coco, root, copy_function=os.symlink)
    for name in (INSTANCES, SEGMENTS):
        (root / name).unlink()
        shutil.copy(coco / name, root / name)
    return root


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_whole_data_set_is_found(coco: Path, mini_coco: MiniCoco) -> None:
    data = find_coco(coco, panoptic=True)
    assert (data.name, data.split, data.deviation) == ("COCO", "val2017", "")
    assert [picture.id for picture in data.pictures] == sorted(picture.id for picture in data.pictures)
    for picture in data.pictures:
        with Image.open(picture.path) as opened:
            assert picture.size == (opened.height, opened.width)
    assert (len(data.pictures), len(data.category_ids)) == (mini_coco.counts[0], 80)
    plain = find_coco(coco, panoptic=False)
    assert plain.panoptic is plain.panoptic_maps is None
    assert plain.digest != data.digest  # its numbers depend on one file only


def test_the_sizes_are_those_of_cocos_papers() -> None:
    assert datasets.COCO_SIZES == {"INPUT.MIN_SIZE_TEST": 800, "INPUT.MAX_SIZE_TEST": 1333}
    assert datasets._VAL2017 == (5000, 36781)


@pytest.mark.parametrize(
    ("missing", "source"),
    [
        (INSTANCES, f"{ANNOTATIONS}/annotations_trainval2017.zip"),
        ("val2017", f"{IMAGES}/val2017.zip"),
        (SEGMENTS, f"{ANNOTATIONS}/panoptic_annotations_trainval2017.zip"),
        ("annotations/panoptic_val2017", f"{ANNOTATIONS}/panoptic_annotations_trainval2017.zip"),
    ],
)
def test_a_missing_piece_is_named_with_its_source(missing: str, source: str, copy: Path) -> None:
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataMissingError) as caught:
        find_coco(copy, panoptic=True)
    first, line = str(caught.value).splitlines()
    assert first == "the data set is not whole; missing:"
    assert line.startswith(f"{path}: from {source}")


def test_all_missing_pieces_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError) as caught:
        find_coco(tmp_path, panoptic=True)
    assert len(str(caught.value).splitlines()) == 5
    with pytest.raises(DataMissingError) as caught:
        find_coco(tmp_path, panoptic=False)
    assert len(str(caught.value).splitlines()) == 3
    assert "panoptic" not in str(caught.value)


@pytest.mark.parametrize("find", [lambda: find_coco(None, panoptic=True), lambda: find_test_dev(None)])
def test_without_a_folder_the_option_and_the_sources_are_named(find: Callable[[], object]) -> None:
    with pytest.raises(DataMissingError, match=r"pass --coco DIR, a folder with annotations/") as caught:
        find()
    assert str(caught.value).count("http://images.cocodataset.org/") >= 2


def test_segment_maps_may_lie_beside_the_annotations_or_in_them(copy: Path) -> None:
    (copy / "annotations" / "panoptic_val2017").rename(copy / "panoptic_val2017")
    assert find_coco(copy, panoptic=True).panoptic_maps == copy / "panoptic_val2017"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"images": [', "is not JSON"),
        ("[]", "a list of objects under 'images'"),
        ('{"images": {}}', "a list of objects under 'images'"),
        ('{"images": [{"id": 1}]}', "a list of objects under 'annotations'"),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            "a row of `images` lacks",
        ),
        ('{"images": [7], "annotations": [], "categories": []}', "a list of objects under 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        ("\x00\xff", "is not JSON"),
    ],
)
def test_an_unreadable_annotation_file_is_named(text: str, complaint: str, copy: Path) -> None:
    (copy / INSTANCES).write_text(text, encoding="latin-1")
    with pytest.raises(DataMissingError) as caught:
        find_coco(copy, panoptic=False)
    assert str(caught.value).startswith(f"{copy / INSTANCES}: ")
    assert complaint in str(caught.value)


def test_rows_that_are_none_are_named(copy: Path) -> None:
    edit(copy / SEGMENTS, lambda content: content["annotations"][0].update(file_name=7))
    with pytest.raises(
        DataMissingError, match=r"json: expected a text as 'file_name', got {.*'file_name': 7"
    ):
        find_coco(copy, panoptic=True)
    edit(copy / SEGMENTS, lambda content: content["annotations"][0].update(image_id=[1]))
    with pytest.raises(DataMissingError, match="1 of 8 pictures have no segments"):
        find_coco(copy, panoptic=True)
    edit(copy / INSTANCES, lambda content: content["categories"][0].update(id=[1]))
    with pytest.raises(
        DataMissingError, match=r"json: categories need a whole number as 'id' .* {'id': \[1\]"
    ):
        find_coco(copy, panoptic=False)


def test_missing_pictures_are_counted(copy: Path) -> None:
    for name in ("000000001000.jpg", "000000002001.jpg"):
        (copy / "val2017" / name).unlink()
    expected = r"val2017: 2 of 8 pictures are missing, such as 000000001000\.jpg, 000000002001\.jpg"
    with pytest.raises(DataMissingError, match=expected):
        find_coco(copy, panoptic=False)


def test_a_picture_without_segments_is_no_part_of_pq_unnoticed(copy: Path) -> None:
    edit(copy / SEGMENTS, lambda content: content["annotations"].pop(0))
    assert find_coco(copy, panoptic=False)
    expected = r"panoptic_val2017\.json: 1 of 8 pictures have no segments, such as 000000001000\.jpg"
    with pytest.raises(DataMissingError, match=expected):
        find_coco(copy, panoptic=True)


def test_missing_segment_maps_are_counted_before_the_hours_of_detecting(copy: Path) -> None:
    (copy / "annotations" / "panoptic_val2017" / "000000001000.png").unlink()
    expected = r"panoptic_val2017: 1 of 8 segment maps are missing, such as 000000001000\.png"
    with pytest.raises(DataMissingError, match=expected):
        find_coco(copy, panoptic=True)


def test_other_pictures_under_the_same_name_are_a_deviation(
    copy: Path, mini_coco: MiniCoco, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, annotations = mini_coco.counts
    edit(copy / INSTANCES, lambda content: content["annotations"].pop())
    expected = f"these are {pictures} pictures with {annotations - 1} annotations, COCO val2017 has "
    assert find_coco(copy, panoptic=False).deviation == f"{expected}{pictures} with {annotations}"
    monkeypatch.setattr(datasets, "_VAL2017", (5000, 36781))
    assert find_coco(copy, panoptic=False).deviation == f"{expected}5,000 with 36,781"


def test_of_test_dev_the_pictures_are_enough(coco: Path, copy: Path) -> None:
    data = find_test_dev(coco)
    assert (data.split, data.instances, len(data.pictures)) == ("test-dev2017", None, 3)
    (copy / "annotations" / "image_info_test-dev2017.json").unlink()
    with pytest.raises(DataMissingError, match=rf"from {ANNOTATIONS}/image_info_test2017\.zip"):
        find_test_dev(copy)


# What shows only when it runs


@pytest.mark.usefixtures("mirror")
def test_a_run_on_other_pictures_gives_no_verdict(verify: Verify, copy: Path) -> None:
    edit(copy / INSTANCES, lambda content: content["annotations"].pop())
    report = verify("tiny_detection", "--level", "coco", "--coco", copy)
    assert report.code == 3
    level = report.level("tiny_detection")
    assert level["status"] == "partial"
    assert level["summary"].startswith("these are 8 pictures with ")


@forks
@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_picture_of_another_size_than_annotated_stops_the_run(
    workers: str, verify: Verify, copy: Path
) -> None:
    edit(copy / INSTANCES, lambda content: content["images"][0].update(width=129))
    report = verify("tiny_detection", "--level", "coco", "--coco", copy, "--workers", workers)
    assert report.code == 1
    expected = "has height and width (96, 128), but the annotations say (96, 129)"
    path = copy / "val2017" / "000000001000.jpg"
    assert report.level("tiny_detection")["summary"].startswith(f"{path}: {expected}")


@pytest.mark.usefixtures("mirror")
def test_a_damaged_segment_map_stops_the_run(verify: Verify, copy: Path) -> None:
    path = copy / "annotations" / "panoptic_val2017" / "000000001000.png"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:40])
    report = verify("tiny_panoptic", "--level", "coco", "--coco", copy)
    assert report.code == 1
    assert report.level("tiny_panoptic")["summary"].startswith(f"{path}: ")


@pytest.mark.usefixtures("mirror")
def test_categories_of_another_data_set_stop_the_run_before_it_detects(
    verify: Verify, copy: Path, tmp_path: Path
) -> None:
    eighty = Categories(tuple(f"thing {k}" for k in range(80)), tuple(range(1, 81)))
    register(replace(info("tiny_detection"), categories=eighty), replace=True)
    report = verify("tiny_detection", "--level", "coco", "--coco", copy)
    assert report.code == 1
    summary = report.level("tiny_detection")["summary"]
    # COCO's ids have gaps: 12, 26, 29, 30, 45, 66, 68, 69, 71.
    assert summary.startswith(
        f"{copy / INSTANCES}: lacks 9 of the 80 category ids that tiny_detection detects"
    )
    assert not list((tmp_path / "results").rglob("pictures.*"))


@pytest.mark.usefixtures("mirror")
def test_categories_under_other_names_stop_the_run_before_it_detects(
    verify: Verify, copy: Path, tmp_path: Path
) -> None:
    edit(copy / INSTANCES, lambda content: content["categories"][0].update(name="bicycle"))
    report = verify("tiny_detection", "--level", "coco", "--coco", copy)
    assert report.code == 1
    summary = report.level("tiny_detection")["summary"]
    assert summary.endswith("1 is 'bicycle' there and 'person' of the model")
    assert not list((tmp_path / "results").rglob("pictures.*"))


@pytest.mark.usefixtures("mirror")
def test_numbers_on_an_unknown_data_set_are_missing_data(verify: Verify, coco: Path) -> None:
    claim("tiny_detection", Reported("BCCD", "test", False, 60.0), Reported("LVIS", "val", False, 30.0))
    report = verify("tiny_detection", "--level", "coco", "--coco", coco)
    assert report.code == 3
    expected = "numbers are reported on LVIS val, which this program does not know"
    assert report.level("tiny_detection")["summary"] == expected
