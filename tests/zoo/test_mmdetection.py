"""mmdetection's eight: the facts of their page, and models that are those of their checkpoints."""

from __future__ import annotations

from functools import cache
from urllib.parse import unquote

import pytest
import torch

from resnest_zoo.api.start import _check_expected
from resnest_zoo.config import load_config, resolve_path
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.registry import MMDETECTION, PUBLISHED, Reported, info
from tests.mmdetection_files import stored_keys

HOST = "https://download.openmmlab.com/mmdetection/v2.0/resnest/"
# name: (file, config, box AP, mask AP), as the page has them.
FACTS = {
    "faster_rcnn_resnest50": (
        "faster_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20200926_125502-20289c16",
        "faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco",
        (42.0, None),
    ),
    "faster_rcnn_resnest101": (
        "faster_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20201006_021058-421517f1",
        "faster-rcnn_s101_fpn_syncbn-backbone+head_ms-range-1x_coco",
        (44.5, None),
    ),
    "cascade_rcnn_resnest50": (
        "cascade_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20201122_213640-763cc7b5",
        "cascade-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco",
        (44.5, None),
    ),
    "cascade_rcnn_resnest101": (
        "cascade_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain-range_1x_coco_20201005_113242-b9459f8f",
        "cascade-rcnn_s101_fpn_syncbn-backbone+head_ms-range-1x_coco",
        (46.8, None),
    ),
    "mask_rcnn_resnest50": (
        "mask_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20200926_125503-8a2c3d47",
        "mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco",
        (42.6, 38.1),
    ),
    "mask_rcnn_resnest101": (
        "mask_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20201005_215831-af60cdf9",
        "mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco",
        (45.2, 40.2),
    ),
    "mask_cascade_resnest50": (
        "cascade_mask_rcnn_s50_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20201122_104428-99eca4c7",
        "cascade-mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco",
        (45.4, 39.5),
    ),
    "mask_cascade_resnest101": (
        "cascade_mask_rcnn_s101_fpn_syncbn-backbone%2Bhead_mstrain_1x_coco_20201005_113243-42607475",
        "cascade-mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco",
        (47.7, 41.4),
    ),
}


@cache
def built(name: str) -> GeneralizedRCNN:
    config = info(name).config
    assert config is not None
    with torch.device("meta"):
        return build_model(load_config(config))


def test_there_are_eight() -> None:
    assert list(MMDETECTION) == [f"{name}_mmdet" for name in FACTS]


@pytest.mark.parametrize("name", FACTS)
def test_an_entry_has_the_facts_of_the_page(name: str) -> None:
    file, config, (box, mask) = FACTS[name]
    entry = info(f"{name}_mmdet")
    stem = file[: -len("_20200926_125502-20289c16")]
    assert entry.artifact.urls == (f"{HOST}{stem}/{file}.pth",)
    assert entry.artifact.filename == f"{unquote(file)}.pth"
    assert entry.artifact.sha256_prefix == file[-8:]
    assert entry.log_url == f"{HOST}{stem}/{stem}-{file[-24:-9]}.log.json"
    assert entry.reported == (Reported("COCO", "val2017", False, box, mask, decimals=1),)
    assert f"box AP {box:.1f}" in str(entry.reported[0])
    for alias in (config, f"{config}.py", unquote(stem), f"{unquote(file)}.pth", entry.artifact.urls[0]):
        assert info(alias.removesuffix(".py")) is entry
    twin = info(name)
    assert (entry.method, entry.backbone, entry.task) == (twin.method, twin.backbone, twin.task)
    assert entry.categories == twin.categories
    assert "Apache-2.0" in entry.licence


@pytest.mark.parametrize("name", FACTS)
def test_the_model_has_the_tensors_of_the_checkpoint(name: str) -> None:
    model = built(f"{name}_mmdet")
    ours = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    theirs = {
        key: shape
        for shape, key in stored_keys()[name].values()
        if key in ours or not key.endswith("num_batches_tracked")  # frozen norms count no batches
    }
    assert ours == theirs
    assert sum(p.numel() for p in model.parameters()) == info(f"{name}_mmdet").parameters


@pytest.mark.parametrize("name", FACTS)
def test_pictures_are_prepared_as_for_the_21(name: str) -> None:
    """What no tensor's shape shows: order, mean and standard deviation, size, stride and frozen stages."""
    assert name in PUBLISHED
    model, twin = built(f"{name}_mmdet"), built(name)
    assert model.preprocessing == twin.preprocessing
    assert model.preprocessing.channel_order == "RGB"
    block, other = (m.backbone.bottom_up.get_submodule("res3")[0] for m in (model, twin))  # type: ignore[index]
    assert block.avd_layer.stride == other.avd_layer.stride
    assert block.conv2.conv.stride == other.conv2.conv.stride
    frozen = [{key for key, p in m.named_parameters() if not p.requires_grad} for m in (model, twin)]
    assert frozen[0] == frozen[1]


@pytest.mark.parametrize("style", ["", "-caffe"])
@pytest.mark.parametrize("method", ["faster-rcnn", "mask-rcnn", "cascade-rcnn", "cascade-mask-rcnn"])
def test_the_two_styles_of_resnet_differ_as_mmdetections_do(method: str, style: str) -> None:
    config = load_config(f"MMDetection/{method}_r50{style}_fpn_1x_coco.yaml")
    with torch.device("meta"):
        model = build_model(config)
    block = model.backbone.bottom_up.get_submodule("res3")[0]  # type: ignore[index]
    strides = (block.conv1.stride, block.conv2.stride)
    preprocessing = model.preprocessing
    if style:
        assert strides == ((2, 2), (1, 1))
        assert (preprocessing.channel_order, preprocessing.pixel_std) == ("BGR", (1.0, 1.0, 1.0))
        assert preprocessing.pixel_mean == (103.53, 116.28, 123.675)
    else:
        assert strides == ((1, 1), (2, 2))
        assert (preprocessing.channel_order, preprocessing.pixel_std) == ("RGB", (58.395, 57.12, 57.375))
        assert preprocessing.pixel_mean == (123.675, 116.28, 103.53)
    assert model.backbone.get_submodule("fpn_lateral2").norm is None
    assert (model.roi_heads.mask_head is not None) == ("mask" in method)


def test_the_configs_start_from_backbones_that_were_trained_as_they_say() -> None:
    folder = resolve_path("Base-RCNN-FPN.yaml").parent / "MMDetection"
    files = sorted(folder.glob("*.yaml"))
    assert len(files) == 16
    for file in files:
        config = load_config(f"MMDetection/{file.name}")
        start = info(config.model.weights)
        assert start.task == "backbone"
        kind = "ResNet" if "_r50" in file.name else "ResNeSt"
        assert start.backbone == f"{kind}-{config.model.resnets.depth}"
        _check_expected(start, config)
