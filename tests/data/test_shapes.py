from __future__ import annotations

import contextlib
import io
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnest_zoo.categories import Categories
from resnest_zoo.data import shapes
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.errors import ConfigError, DataError
from resnest_zoo.evaluation.panoptic import match_segments, panoptic_quality, read_segment_map
from resnest_zoo.evaluation.segments import SegmentMap

pycocotools_warns = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SEED, COUNT = 5, 24
COMMON = range(40)  # pictures of SEED that show everything at least once


@pytest.fixture(scope="module")
def scenes() -> list[shapes.Scene]:
    return [shapes.draw(SEED, index, crowd_fraction=0.2) for index in COMMON]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A split of the first scenes; it is read only."""
    folder = tmp_path_factory.mktemp("shapes") / "set"
    return shapes.write(folder, count=COUNT, seed=SEED, split="val2017", crowd_fraction=0.2)


@pytest.fixture(scope="module")
def truth(written) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(written / "annotations" / "instances_val2017.json")


def panoptic_rows(folder: Path) -> dict[int, dict]:
    data = json.loads((folder / "annotations" / "panoptic_val2017.json").read_text())
    return {row["image_id"]: row for row in data["annotations"]}


def read_ids(folder: Path, image_id: int) -> np.ndarray:
    file = folder / "annotations" / "panoptic_val2017" / f"{image_id:012d}.png"
    return np.asarray(Image.open(file)).astype(int) @ [1, 256, 65536]


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# Pictures


def test_a_seed_and_an_index_mean_the_same_picture_everywhere():
    """A picture that changes is a new version of the data set: numbers measured on the old one are void."""
    digest = sha256()
    for index in range(4):
        scene = shapes.draw(3, index, crowd_fraction=1.0)
        digest.update(scene.image.tobytes())
        digest.update(scene.segment_map.astype("<i4").tobytes())
        digest.update(repr([(s.category_id, s.area, s.bbox) for s in scene.segments]).encode())
    assert shapes.VERSION == "1"
    assert digest.hexdigest() == "41c685a55bafb2238a0ed6b466573a1a3590b409624ab416b6afe3e229c63590"


def test_another_seed_or_index_is_another_picture():
    size = (64, 64)
    images = [shapes.draw(s, i, size=size).image.tobytes() for s, i in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len(set(images)) == 4


def test_forms_of_what_is_drawn(scenes):
    sizes = {scene.image.shape for scene in scenes}
    assert len(sizes) > 30
    assert all(128 <= side <= 192 for shape in sizes for side in shape[:2])
    for scene in scenes:
        height, width, channels = scene.image.shape
        assert scene.image.dtype == np.uint8
        assert channels == 3
        assert scene.segment_map.shape == scene.semantic.shape == (height, width)
        assert scene.masks.shape == (len(scene.things), height, width)
        assert scene.masks.dtype == bool
        assert scene.image.std() > 10


@pytest.mark.parametrize("size", [(64, 64), (64, 300), (250, 71)])
def test_a_size_is_height_and_width(size):
    scene = shapes.draw(0, 1, size=size, crowd_fraction=1.0)
    assert scene.image.shape == (*size, 3)
    assert scene.segment_map.shape == size


def test_segments_are_measured_pixel_by_pixel(scenes):
    """Naive loops over the smallest picture."""
    scene = min(scenes, key=lambda s: s.segment_map.size if len(s.segments) > 5 else np.inf)
    found: dict[int, list[tuple[int, int]]] = {}
    for y, row in enumerate(scene.segment_map.tolist()):
        for x, number in enumerate(row):
            found.setdefault(number, []).append((x, y))
    assert set(found) - {0} == set(range(1, len(scene.segments) + 1))
    for number, segment in enumerate(scene.segments, start=1):
        xs, ys = zip(*found[number], strict=True)
        assert segment.area == len(xs)
        assert segment.bbox == (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)


def test_maps_agree_with_masks(scenes):
    for scene in scenes:
        assert scene.masks.sum(axis=0).max(initial=0) <= 1  # disjoint
        assert [mask.sum() for mask in scene.masks] == [thing.area for thing in scene.things]
        np.testing.assert_array_equal(scene.semantic == 0, scene.masks.any(axis=0))
        np.testing.assert_array_equal(scene.semantic == shapes.IGNORED, scene.segment_map == 0)
        for number, segment in enumerate(scene.segments, start=1):
            wanted = 0 if segment.is_thing else segment.class_index
            assert set(scene.semantic[scene.segment_map == number].tolist()) == {wanted}
        stuff = [s.class_index for s in scene.segments if not s.is_thing]
        assert stuff == sorted(set(stuff))  # one segment for each kind, and never class 0
        assert 0 not in stuff


def test_a_data_set_shows_everything(scenes):
    segments = [segment for scene in scenes for segment in scene.segments]
    assert {s.category_id for s in segments if s.is_thing} == set(shapes.CATEGORIES.thing_ids)
    assert {s.category_id for s in segments if not s.is_thing} == set(shapes.CATEGORIES.stuff_ids[1:])
    assert any(s.is_crowd for s in segments)
    assert any(not scene.things for scene in scenes)
    assert max(len(scene.things) for scene in scenes) >= 8
    sides = [max(s.bbox[2:]) for s in segments if s.is_thing and not s.is_crowd]
    assert min(sides) <= 16
    assert max(sides) >= 90
    void = np.concatenate([scene.segment_map.ravel() == 0 for scene in scenes]).mean()
    assert 0.001 < void < 0.02


def test_the_part_of_crowds_is_chosen():
    size = (64, 64)
    none = [shapes.draw(1, i, size=size, crowd_fraction=0) for i in range(30)]
    every = [shapes.draw(1, i, size=size, crowd_fraction=1) for i in range(30)]
    assert not any(s.is_crowd for scene in none for s in scene.segments)
    assert all(sum(s.is_crowd for s in scene.things) == 1 for scene in every if scene.things)


# Files


def test_the_layout_is_cocos(written):
    assert sorted(path.name for path in written.iterdir()) == ["annotations", "val2017"]
    names = [f"{k:012d}.png" for k in range(1, COUNT + 1)]
    assert sorted(path.name for path in (written / "val2017").iterdir()) == names
    assert sorted(path.name for path in (written / "annotations" / "panoptic_val2017").iterdir()) == names
    instances = json.loads((written / "annotations" / "instances_val2017.json").read_text())
    panoptic = json.loads((written / "annotations" / "panoptic_val2017.json").read_text())
    for data in (instances, panoptic):
        assert list(data) == ["info", "licenses", "images", "annotations", "categories"]
        assert data["info"]["seed"] == SEED
    assert instances["images"] == panoptic["images"]
    assert [row["id"] for row in instances["annotations"]] == list(
        range(1, len(instances["annotations"]) + 1)
    )
    assert [row["isthing"] for row in panoptic["categories"]] == [1] * 6 + [0] * 4
    assert len({tuple(row["color"]) for row in panoptic["categories"]}) == 10
    named = {row["id"]: row["name"] for row in panoptic["categories"]}
    assert named == dict(zip(shapes.CATEGORIES.thing_ids, shapes.CATEGORIES.things, strict=True)) | dict(
        zip(shapes.CATEGORIES.stuff_ids[1:], shapes.CATEGORIES.stuff[1:], strict=True)
    )


def test_pictures_on_disk_are_those_drawn(written, truth):
    for image_id in truth.getImgIds():
        scene = shapes.draw(SEED, image_id - 1, crowd_fraction=0.2)
        (row,) = truth.loadImgs(image_id)
        pixels = np.asarray(Image.open(written / "val2017" / row["file_name"]))
        np.testing.assert_array_equal(pixels, scene.image)
        assert pixels.shape[:2] == (row["height"], row["width"])


@pycocotools_warns
def test_annotations_panoptic_files_and_scenes_agree(written, truth):
    panoptic = panoptic_rows(written)
    assert set(panoptic) == set(truth.getImgIds())
    crowds = 0
    for image_id in truth.getImgIds():
        scene = shapes.draw(SEED, image_id - 1, crowd_fraction=0.2)
        ids, rows = read_ids(written, image_id), panoptic[image_id]["segments_info"]
        annotations = truth.loadAnns(truth.getAnnIds([image_id]))
        things = [row for row in rows if row["category_id"] in shapes.CATEGORIES.thing_ids]
        assert len(things) == len(annotations) == len(scene.things)
        for annotation, row, mask in zip(annotations, things, scene.masks, strict=True):
            np.testing.assert_array_equal(truth.annToMask(annotation), mask)
            np.testing.assert_array_equal(ids == row["id"], mask)
            for key in ("category_id", "bbox", "area", "iscrowd"):
                assert annotation[key] == row[key]
            assert isinstance(annotation["segmentation"]["counts"], list if row["iscrowd"] else str)
            crowds += row["iscrowd"]
        assert set(np.unique(ids)) - {0} == {row["id"] for row in rows}
        for row in rows:
            assert row["area"] == np.count_nonzero(ids == row["id"])
        np.testing.assert_array_equal(ids == 0, scene.semantic == shapes.IGNORED)
    assert crowds >= 2
    assert any(row["id"] > 65536 for row in panoptic[1]["segments_info"])


def average_precision(truth: COCO, results: list[dict], kind: str) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def as_results(truth: COCO) -> list[dict]:
    keys = ("image_id", "category_id", "bbox", "segmentation")
    rows = [row for row in truth.dataset["annotations"] if not row["iscrowd"]]
    return [{key: row[key] for key in keys} | {"score": 0.5} for row in rows]


@pycocotools_warns
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_truth_scores_1_whatever_is_found_in_crowds(truth, kind):
    results = as_results(truth)
    assert average_precision(truth, results, kind) == 1.0
    crowds = [row for row in truth.dataset["annotations"] if row["iscrowd"]]
    for row in crowds:
        mask = truth.annToMask(row)
        mask[: mask.shape[0] // 2] = 0  # of the crowd, but not the whole
        if not mask.any():
            mask = truth.annToMask(row)
        y, x = mask.nonzero()
        box = [int(v) for v in (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)]
        found = {"bbox": box, "segmentation": shapes._compressed(mask), "score": 0.9}
        results.append({"image_id": row["image_id"], "category_id": row["category_id"]} | found)
    assert average_precision(truth, results, kind) == 1.0
    for result in results[-len(crowds) :]:  # found with another class they are mistakes
        result["category_id"] = 1 if result["category_id"] != 1 else 2
    assert average_precision(truth, results, kind) < 1.0


def test_the_truth_has_panoptic_quality_1(written):
    folder = written / "annotations" / "panoptic_val2017"
    records = []
    for image_id, row in panoptic_rows(written).items():
        segments = SegmentMap.from_coco(read_segment_map(folder / row["file_name"]), row)
        records.append(match_segments(segments, segments, shapes.CATEGORIES))
        assert records[-1]["image_id"] == image_id
    quality = panoptic_quality(records, shapes.CATEGORIES)
    assert (quality.all.pq, quality.all.fp, quality.all.fn) == (1.0, 0, 0)
    assert set(quality.per_category) == {*shapes.CATEGORIES.thing_ids, *shapes.CATEGORIES.stuff_ids[1:]}


def test_the_trainers_reader_takes_it_as_it_is(written, truth):
    annotations = written / "annotations"
    panoptic = PanopticFiles(annotations / "panoptic_val2017.json", annotations / "panoptic_val2017")
    file = annotations / "instances_val2017.json"
    read = read_dataset(file, written / "val2017", panoptic=panoptic, masks=True, filter_empty=False)
    assert read.categories == shapes.CATEGORIES
    assert isinstance(shapes.CATEGORIES, Categories)
    for record in read:
        scene = shapes.draw(SEED, int(record.image_id) - 1, crowd_fraction=0.2)
        single = [thing for thing in scene.things if not thing.is_crowd]
        assert record.classes == [thing.class_index for thing in single]
        assert record.boxes == [list(thing.bbox) for thing in single]
        assert record.segment_map is not None
        got = record.segment_map.read_semantic(record.size, shapes.IGNORED)
        np.testing.assert_array_equal(got, scene.semantic)
    assert any(not record.classes for record in read)  # pictures without things are there


def test_writing_twice_gives_the_same_bytes(written, tmp_path):
    again = shapes.write(tmp_path / "again", count=COUNT, seed=SEED, split="val2017", crowd_fraction=0.2)
    assert all_files(again) == all_files(written)


def test_splits_stand_beside_each_other(tmp_path):
    folder = tmp_path / "new" / "set"
    assert shapes.write(folder, count=2, seed=0, split="train2017", size=(64, 64)) == folder
    first = all_files(folder)
    shapes.write(folder, count=1, seed=1, split="val2017", size=(64, 70))
    both = all_files(folder)
    assert first.items() <= both.items()
    assert len(both) == len(first) + 4
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode == folder.parent.stat().st_mode  # not closed to others


def test_a_split_is_never_overwritten(tmp_path):
    shapes.write(tmp_path, count=1, seed=0, split="val2017", size=(64, 64))
    before = all_files(tmp_path)
    with pytest.raises(DataError, match=r"the split 'val2017' exists .*instances_val2017\.json"):
        shapes.write(tmp_path, count=1, seed=1, split="val2017", size=(64, 64))
    assert all_files(tmp_path) == before
    (tmp_path / "test").mkdir()  # also not one of which only the pictures are there
    with pytest.raises(DataError, match="the split 'test' exists"):
        shapes.write(tmp_path, count=1, seed=1, split="test", size=(64, 64))


def test_a_split_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    original, options = shapes.draw, {"count": 1, "split": "val2017", "size": (64, 64)}

    def overtaken(*args, **kwargs):
        monkeypatch.setattr(shapes, "draw", original)
        shapes.write(tmp_path / "set", seed=1, **options)
        return original(*args, **kwargs)

    monkeypatch.setattr(shapes, "draw", overtaken)
    with pytest.raises(DataError, match="the split 'val2017' exists"):
        shapes.write(tmp_path / "set", seed=0, **options)
    file = tmp_path / "set" / "annotations" / "instances_val2017.json"
    assert json.loads(file.read_text())["info"]["seed"] == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "set").write_text("something")
    with pytest.raises(DataError, match="set: expected a folder"):
        shapes.write(tmp_path / "set", count=1, seed=0, split="val2017")
    with pytest.raises(DataError, match=r"val2017 cannot be written: (Not a directory|File exists)"):
        shapes.write(tmp_path / "set" / "more", count=1, seed=0, split="val2017")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("when", ["drawing", "moving"])
def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch, existing, when):
    folder = tmp_path / "set"
    options = {"count": 2, "size": (64, 64)}
    if existing:
        shapes.write(folder, seed=0, split="train2017", **options)
    before = all_files(tmp_path)
    calls = 0

    def interrupted_after(number, original):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        if when == "drawing":
            patch.setattr(shapes, "draw", interrupted_after(2, shapes.draw))
        else:
            patch.setattr(Path, "rename", interrupted_after(3 if existing else 1, Path.rename))
        with pytest.raises(KeyboardInterrupt):
            shapes.write(folder, seed=1, split="val2017", **options)
    assert all_files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["set"] if existing else [])
    shapes.write(folder, seed=1, split="val2017", **options)
    assert len(all_files(folder)) == len(before) + 6


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shapes, "_write_json", fail)
    with pytest.raises(DataError, match="set: val2017 cannot be written: No space left on device"):
        shapes.write(tmp_path / "set", count=1, seed=0, split="val2017", size=(64, 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed: expected a whole number from 0, got -1"),
        ({"seed": 1.5}, "seed: .* got 1.5"),
        ({"seed": True}, "seed: .* got True"),
        ({"index": -1}, "index: expected a whole number from 0"),
        ({"size": (63, 64)}, "size: .* from 64 to 4096 pixels, got \\(63, 64\\)"),
        ({"size": (64, 4097)}, "size: .* got"),
        ({"size": (64,)}, "size: .* got"),
        ({"size": 64}, "size: .* got 64"),
        ({"size": (64.0, 64)}, "size: .* got"),
        ({"crowd_fraction": 1.1}, "crowd_fraction: expected a number from 0 to 1, got 1.1"),
        ({"crowd_fraction": float("nan")}, "crowd_fraction: .* got nan"),
        ({"crowd_fraction": "all"}, "crowd_fraction: .* got 'all'"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        shapes.draw(**({"seed": 0, "index": 0} | arguments))
    if "index" not in arguments:
        with pytest.raises(ConfigError, match=message):
            shapes.write(tmp_path / "set", **({"count": 1, "seed": 0, "split": "a"} | arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["", "a/b", "..", ".hidden", "annotations", "a b", "C:x", "a\n"])
def test_a_split_is_a_plain_name(tmp_path, split):
    with pytest.raises(ConfigError, match="split: expected a name such as 'val2017'"):
        shapes.write(tmp_path / "set", count=1, seed=0, split=split)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [0, -1, 2.0])
def test_a_data_set_has_pictures(tmp_path, count):
    with pytest.raises(ConfigError, match="count: expected a whole number from 1"):
        shapes.write(tmp_path / "set", count=count, seed=0, split="val2017")
