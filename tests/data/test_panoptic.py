from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.data.panoptic import SegmentMap, read_segment_maps, semantic_classes
from resnest_zoo.data.problems import Problems
from resnest_zoo.errors import DataError, ImageError

THREE = Categories(("cube",), (7,), ("things", "grass", "sky"), (0, 91, 95))


def save_ids(ids: np.ndarray, file) -> None:
    Image.fromarray(np.stack((ids % 256, ids // 256 % 256, ids // 65536), axis=2).astype(np.uint8)).save(file)


def test_classes_of_coco():
    classes = semantic_classes(COCO_PANOPTIC)
    assert len(classes) == 80 + 53
    assert {classes[k] for k in COCO.thing_ids} == {0}
    assert [classes[k] for k in (92, 93, 200)] == [1, 2, 53]
    with pytest.raises(DataError, match="have none"):
        semantic_classes(COCO)
    many = tuple(range(300))
    with pytest.raises(DataError, match="255"):
        semantic_classes(Categories((), (), tuple(map(str, many)), many))


def test_each_pixel_gets_the_class_of_its_segment(tmp_path):
    rng = np.random.default_rng(0)
    numbers = np.array([0, 1, 255, 256, 65535, 65536, 2**24 - 1])
    ids = rng.choice(numbers, (13, 17))
    save_ids(ids, tmp_path / "a.png")
    segments = ((1, 0), (255, 1), (256, 2), (65536, 1), (2**24 - 1, 254))
    got = SegmentMap(tmp_path / "a.png", segments).read_semantic((13, 17), 255)
    expected = [[dict(segments).get(i, 255) for i in row] for row in ids.tolist()]
    assert got.dtype == np.uint8
    assert got.tolist() == expected


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_only_rgb_holds_ids(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=rf"a\.png: expected an RGB .*'{mode}'"):
        SegmentMap(tmp_path / "a.png", ()).read_semantic((4, 4), 255)


def test_a_file_that_is_missing_damaged_or_of_another_size_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"a\.png: cannot be read"):
        SegmentMap(tmp_path / "a.png", ()).read_semantic((4, 4), 255)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png: cannot be read"):
        SegmentMap(tmp_path / "a.png", ()).read_semantic((4, 4), 255)
    save_ids(np.random.default_rng(0).integers(0, 2**24, (40, 40)), tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png: has height and width \(40, 40\).*\(40, 41\)"):
        SegmentMap(tmp_path / "a.png", ()).read_semantic((40, 41), 255)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"a\.png: cannot be read"):
        SegmentMap(tmp_path / "a.png", ()).read_semantic((40, 40), 255)


def test_every_bad_annotation_is_noted(tmp_path):
    save_ids(np.zeros((2, 2), dtype=int), tmp_path / "a.png")
    good = [{"id": 5, "category_id": 91}, {"id": 6, "category_id": 0}, {"id": 7, "category_id": 12}]
    rows = [
        {"image_id": 1, "file_name": "a.png", "segments_info": good},
        {"image_id": 2, "file_name": "b.png", "segments_info": []},
        {"image_id": 3, "segments_info": []},
        {"image_id": 4, "file_name": "a.png", "segments_info": [{"id": "5"}]},
        {"image_id": None, "file_name": "a.png", "segments_info": []},
        {"image_id": 5, "file_name": "a.png", "segments_info": [{"id": 0, "category_id": 91}]},
        {"image_id": 6, "file_name": "a.png", "segments_info": [{"id": 7, "category_id": 91}] * 2},
    ]
    problems = Problems()
    maps = read_segment_maps({"annotations": rows}, tmp_path, semantic_classes(THREE), problems)
    assert maps == {1: SegmentMap(tmp_path / "a.png", ((5, 1),)), 2: None, 3: None, 4: None, 5: None, 6: None}
    lines = problems.report().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "3", "2", "1"]
    assert "2 (b.png)" in lines[0]
    assert "3 (None), 4 (a.png), None (a.png)" in lines[1]
    assert "5 (a.png), 6 (a.png)" in lines[2]
    assert "1 (a.png): 12" in lines[3]
