from __future__ import annotations

from pathlib import Path

import pytest

from resnest_zoo.errors import ConfigError, DataError
from resnest_zoo.training.named_sets import find_sets, require_files


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path / "coco"


@pytest.mark.parametrize(
    ("name", "annotations", "images"),
    [
        ("coco_2017_train", "instances_train2017.json", "train2017"),
        ("coco_2017_val", "instances_val2017.json", "val2017"),
        ("coco_2017_val_100", "instances_val2017_100.json", "val2017"),
        ("coco_2014_minival", "instances_minival2014.json", "val2014"),
        ("coco_2017_val_panoptic_separated", "instances_val2017.json", "val2017"),
    ],
)
def test_names_stand_for_detectron2s_files(root: Path, name: str, annotations: str, images: str) -> None:
    (files,) = find_sets([name], panoptic=False)
    assert (files.annotations, files.images) == (root / "annotations" / annotations, root / images)
    assert files.panoptic is None


def test_panoptic_files_lie_beside_the_pictures_or_with_the_annotations(root: Path) -> None:
    for folder in (root / "panoptic_val2017", root / "annotations" / "panoptic_val2017"):
        (files,) = find_sets(["coco_2017_val_panoptic_separated"], panoptic=True)
        assert files.panoptic is not None
        assert files.panoptic.annotations == root / "annotations" / "panoptic_val2017.json"
        assert files.panoptic.folder == folder
        (root / "annotations" / "panoptic_val2017").mkdir(parents=True, exist_ok=True)


def test_everything_that_is_missing_is_named_in_one_error(root: Path) -> None:
    (root / "train2017").mkdir(parents=True)
    sets = find_sets(
        ["coco_2017_train_panoptic_separated", "coco_2017_val_panoptic_separated"], panoptic=True
    )
    with pytest.raises(DataError) as caught:
        require_files(sets)
    missing = [line.strip() for line in str(caught.value).splitlines()[1:]]
    train, val = "coco_2017_train_panoptic_separated", "coco_2017_val_panoptic_separated"
    assert missing == [
        f"{train}: {root / 'annotations' / 'instances_train2017.json'}",
        f"{train}: {root / 'annotations' / 'panoptic_train2017.json'}",
        f"{train}: {root / 'panoptic_train2017'}",
        f"{val}: {root / 'annotations' / 'instances_val2017.json'}",
        f"{val}: {root / 'val2017'}",
        f"{val}: {root / 'annotations' / 'panoptic_val2017.json'}",
        f"{val}: {root / 'panoptic_val2017'}",
    ]
    assert "DETECTRON2_DATASETS" in str(caught.value)


def test_what_is_there_is_accepted(root: Path) -> None:
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2017.json").touch()
    require_files(find_sets(["coco_2017_val"], panoptic=False))


@pytest.mark.parametrize("name", ["coco_2018_train", "lvis_v1_train", "coco_2014_val_panoptic_separated"])
def test_an_unknown_name_is_refused_with_the_known_ones(root: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: no data set of that name; there are coco_2014_train, "):
        find_sets([name], panoptic=False)


def test_a_panoptic_model_wants_a_set_with_segments(root: Path) -> None:
    with pytest.raises(ConfigError, match="needs panoptic annotations, as coco_2017_val_panoptic_separated"):
        find_sets(["coco_2017_val"], panoptic=True)


def test_without_the_variable_sets_lie_below_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    (files,) = find_sets(["coco_2017_val"], panoptic=False)
    assert files.images == Path("datasets/coco/val2017")
