from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from resnest_zoo import registry
from resnest_zoo.errors import RegistryError, UnknownModelError
from resnest_zoo.hub import Artifact
from resnest_zoo.registry import SHIPPED, Entry, Reported, info, list_models, register

BUCKET = "https://s3.us-west-1.wasabisys.com/resnest/detectron"


def make_entry(name: str = "mine", **fields: Any) -> Entry:
    values = {
        "task": "object detection",
        "artifact": Artifact("mine.pth"),
        "config": "mine.yaml",
        **fields,
    }
    return Entry(name, **values)


def test_patterns_select_by_name_in_published_order() -> None:
    assert list_models("mask_*resnest200*") == [
        "mask_cascade_resnest200_3x",
        "mask_cascade_resnest200_dcn_3x",
    ]
    assert list_models("*_DCN*") == ["faster_rcnn_resnest50_dcn", "mask_cascade_resnest200_dcn_3x", *SHIPPED]
    assert list_models("nothing*") == []
    assert [name for name in list_models("*resnest50*", backbones=True) if info(name).task == "backbone"] == [
        "resnest50_imagenet",
        "resnest50_authors",
        "resnest50_timm",
    ]


def test_tasks_select_models() -> None:
    assert len(list_models(task="object detection")) == 10 + 4
    assert len(list_models("mask_cascade*", task="instance segmentation")) == 6 + 2
    assert list_models(task="panoptic segmentation") == ["panoptic_resnest200_3x", SHIPPED[-1]]
    with pytest.raises(RegistryError, match="Did you mean 'object detection'"):
        list_models(task="detection")


@pytest.mark.parametrize(
    "name",
    [
        "mask_rcnn_resnest50",
        "Mask-RCNN-ResNeSt50",
        " mask_rcnn_resnest50 ",
        "mask_rcnn_ResNeSt_50_FPN_syncBN_1x",
        "mask_rcnn_ResNeSt_50_FPN_syncBN_1x-f442d863.pth",
        "COCO-InstanceSegmentation/mask_rcnn_ResNeSt_50_FPN_syncBN_1x.yaml",
        f"{BUCKET}/mask_rcnn_ResNeSt_50_FPN_syncBN_1x-f442d863.pth ",
    ],
)
def test_an_entry_is_found_by_every_published_name(name: str) -> None:
    assert info(name).name == "mask_rcnn_resnest50"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("faster_resnest50", "faster_rcnn_resnest50"),
        ("mask_cascade_resnest200_dnc_3x", "mask_cascade_resnest200_dcn_3x"),
        ("my/folder/panoptic_ResNeSt_200_FPN_syncBN_3x.pth", "panoptic_resnest200_3x"),
    ],
)
def test_an_unknown_name_suggests_the_closest(name: str, suggestion: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        info(name)
    assert f"Did you mean '{suggestion}'" in str(caught.value)


def test_a_strange_name_points_to_the_list() -> None:
    with pytest.raises(
        UnknownModelError, match=r"No model is called 'xyzzy'\. `resnest-zoo list` shows all\."
    ):
        info("xyzzy")
    with pytest.raises(UnknownModelError):  # another file, though its path ends alike
        info("detectron2://ImageNetPretrained/torchvision/R-50.pkl")


def test_a_path_names_what_its_text_names() -> None:
    config = Path("COCO-InstanceSegmentation") / "mask_rcnn_ResNeSt_50_FPN_syncBN_1x.yaml"
    assert info(config).name == "mask_rcnn_resnest50"


@pytest.mark.parametrize("name", [None, 5, b"mask_rcnn_resnest50", ["mask_rcnn_resnest50"]])
def test_what_is_no_name_is_refused_with_what_was_expected(name: Any) -> None:
    with pytest.raises(UnknownModelError, match="a model's name is text or a path, got "):
        info(name)


def test_an_entry_is_looked_up_by_one_public_name() -> None:
    assert not hasattr(registry, "get_entry")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "cannot name a model"),
        ({"name": "../mine"}, "cannot name a model"),
        ({"name": "my model"}, "cannot name a model"),
        ({"aliases": ("my alias",)}, "alias 'my alias'"),
        ({"task": "segmentation"}, "unknown task 'segmentation'"),
        ({"config": None}, "needs a config"),
    ],
)
def test_a_malformed_entry_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        make_entry(**fields)


def test_results_need_a_percent() -> None:
    with pytest.raises(RegistryError, match="expected percents"):
        Reported("mine", "val", tta=False)
    with pytest.raises(RegistryError, match=r"got \[101.0\]"):
        Reported("mine", "val", tta=False, box=101.0)


@pytest.mark.usefixtures("own_registry")
def test_a_registered_entry_is_found_and_listed() -> None:
    entry = make_entry(aliases=("my-alias",))
    register(entry)
    assert info("MINE") is info("my_alias.pth") is entry
    assert list_models()[-1] == "mine"


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    "entry",
    [
        make_entry("faster_rcnn_resnest50"),
        make_entry("FASTER-rcnn-resnest50"),
        make_entry("mask_rcnn_R_50_FPN_syncbn_1x"),
        make_entry(aliases=("faster_rcnn_resnest50",)),
    ],
)
def test_a_taken_name_is_refused(entry: Entry) -> None:
    before = list_models()
    with pytest.raises(RegistryError, match=r"taken|already"):
        register(entry)
    assert list_models() == before


@pytest.mark.usefixtures("own_registry")
def test_two_files_cannot_share_one_place_in_the_cache() -> None:
    register(make_entry("first", artifact=Artifact("model_final.pth", ("https://host/a/model_final.pth",))))
    other = Artifact("MODEL_final.pth", ("https://host/b/model_final.pth",))
    with pytest.raises(RegistryError, match="that of 'first'"):
        register(make_entry("second", artifact=other))
    register(make_entry("same", artifact=info("first").artifact))
    register(make_entry("local", artifact=Artifact("model_final.pth", path=Path("model_final.pth"))))


@pytest.mark.usefixtures("own_registry")
def test_replacing_takes_the_name_and_drops_its_aliases() -> None:
    register(make_entry("faster_rcnn_resnest50"), replace=True)
    assert info("faster_rcnn_resnest50").config == "mine.yaml"
    with pytest.raises(UnknownModelError):
        info("faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x")
    with pytest.raises(RegistryError, match="taken by the entry 'mask_rcnn_resnet50'"):
        register(make_entry("mine", aliases=("mask_rcnn_resnet50",)), replace=True)


@pytest.mark.usefixtures("own_registry")
def test_zoo_files_of_the_environment_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"{name}: {{task: backbone, weights: {name}.pth}}")
    monkeypatch.setenv(
        "RESNEST_ZOO_FILE", os.pathsep.join([str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")])
    )
    assert info("two").artifact.path == tmp_path / "two.pth"
    assert list_models(task="backbone")[-2:] == ["one", "two"]


@pytest.mark.usefixtures("own_registry")
def test_a_wrong_zoo_file_of_the_environment_fails_every_lookup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text("good: {task: backbone, weights: good.pth}")
    monkeypatch.setenv(
        "RESNEST_ZOO_FILE", os.pathsep.join([str(tmp_path / "good.yaml"), str(tmp_path / "none.yaml")])
    )
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"none\.yaml: cannot be read"):
            list_models()
