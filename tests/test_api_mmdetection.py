"""Checkpoints that people trained with mmdetection: what they are taken for, their classes, and refusals."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import resnest_zoo
from resnest_zoo.api.mmdetection import recognise
from resnest_zoo.api.origin import Origin, trained_as
from resnest_zoo.categories import COCO
from resnest_zoo.checkpoint import Checkpoint
from resnest_zoo.checkpoint.formats import Contents
from resnest_zoo.errors import CheckpointError
from resnest_zoo.models import build_model
from resnest_zoo.recognition import Format
from resnest_zoo.registry import info
from tests.checkpoint.test_unpickling import standing_in
from tests.mmdetection_files import GOLDEN, filled, small_config, stored_keys

EXTRA = stored_keys(GOLDEN / "extra")
# As mmengine writes a config of 3.x beside the weights.
CAFFE = """\
model = dict(
    backbone=dict(depth=50, norm_cfg=dict(requires_grad=False, type='BN'), style='caffe', type='ResNet'),
    data_preprocessor=dict(
        bgr_to_rgb=False, mean=[
            103.53,
            116.28,
            123.675,
        ], pad_size_divisor=32, std=[
            1.0,
            1.0,
            1.0,
        ], type='DetDataPreprocessor'),
    type='MaskRCNN')
"""
# Of 2.x.
PYTORCH = """\
model = dict(backbone=dict(style='pytorch'))
img_norm_cfg = dict(mean=[1, 2.5, 3], std=[4.0, 5, 6], to_rgb=True)
"""


def checkpoint(keys: dict[str, tuple[list[int], str]], **meta: Any) -> Checkpoint:
    """A checkpoint of tensors without numbers."""
    tensors = {key: partial(torch.empty, shape, device="meta") for key, (shape, _) in keys.items()}
    return Checkpoint(Path("epoch_12.pth"), Contents(Format.TORCH_ZIP, tensors, beside={"meta": meta}))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (EXTRA["faster_rcnn_r50_pytorch"], 'Faster R-CNN on ResNet-50 in "pytorch" style'),
        (EXTRA["mask_rcnn_r50_caffe"], 'Mask R-CNN on ResNet-50 in "pytorch" style'),  # it does not say
        (EXTRA["cascade_rcnn_r101_pytorch"], 'Cascade R-CNN on ResNet-101 in "pytorch" style'),
        (EXTRA["mask_cascade_r50_pytorch"], 'Cascade Mask R-CNN on ResNet-50 in "pytorch" style'),
        (stored_keys()["faster_rcnn_resnest101"], "Faster R-CNN on ResNeSt-101"),
        (stored_keys()["mask_cascade_resnest50"], "Cascade Mask R-CNN on ResNeSt-50"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_is_recognised_by_its_keys_and_built_as_what_it_is(keys: Any, words: str) -> None:
    found = recognise(checkpoint(keys))
    assert found.words == f"mmdetection's {words}"
    assert found.categories == COCO
    with torch.device("meta"):
        model = build_model(found.config)
    ours = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    theirs = {name: shape for shape, name in keys.values()}
    assert ours.items() <= theirs.items()
    assert all(key.endswith("num_batches_tracked") for key in theirs.keys() - ours.keys())


def test_the_entries_are_built_as_their_own_configs(caplog: pytest.LogCaptureFixture) -> None:
    """And so is a config that fits, for what the tensors do not show."""
    for name in ("mask_rcnn_resnest50", "cascade_rcnn_resnest101"):
        config = info(f"{name}_mmdet").config
        assert config is not None
        origin = trained_as(checkpoint(stored_keys()[name]), Origin(config))
        assert origin is not None
        assert origin.source == config
    caffe = "MMDetection/mask-rcnn_r50-caffe_fpn_1x_coco.yaml"
    origin = trained_as(checkpoint(EXTRA["mask_rcnn_r50_caffe"]), Origin(caffe))
    assert origin is not None
    assert origin.source == caffe
    deeper = "MMDetection/cascade-rcnn_r50-caffe_fpn_1x_coco.yaml"
    origin = trained_as(checkpoint(EXTRA["cascade_rcnn_r101_pytorch"]), Origin(deeper))
    assert origin is not None
    config = origin.load({})
    assert (config.input.format, config.model.resnets.depth) == ("BGR", 101)
    assert caplog.text == ""


def test_the_style_is_that_of_the_config_beside_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    keys = EXTRA["mask_rcnn_r50_caffe"]
    for notes in ({"cfg": CAFFE}, {"config": CAFFE}):
        found = recognise(checkpoint(keys, **notes))
        assert found.words.endswith('Mask R-CNN on ResNet-50 in "caffe" style')
        assert found.config.input.format == "BGR"
        assert found.config.model.resnets.stride_in_1x1
        assert found.config.model.pixel_mean == (103.53, 116.28, 123.675)
        assert found.config.model.pixel_std == (1.0, 1.0, 1.0)
    other = recognise(checkpoint(keys, config=PYTORCH)).config
    assert other.model.pixel_mean == (1.0, 2.5, 3.0)
    assert other.model.pixel_std == (4.0, 5.0, 6.0)
    assert other.input.format == "RGB"
    assert not other.model.resnets.stride_in_1x1
    # What is named does not fit then.
    origin = trained_as(checkpoint(keys, cfg=CAFFE), Origin("MMDetection/mask-rcnn_r50_fpn_1x_coco.yaml"))
    assert origin is not None
    assert origin.load({}).input.format == "BGR"
    assert 'epoch_12.pth: taken for mmdetection\'s Mask R-CNN on ResNet-50 in "caffe" style' in caplog.text


def test_a_detectron2_entry_that_does_not_fit_gives_way_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    named = Origin(info("mask_rcnn_resnet50").config or "")
    origin = trained_as(checkpoint(EXTRA["mask_rcnn_r50_caffe"]), named)
    assert origin is not None
    assert origin.load({}).model.fpn.norm == ""
    assert "taken for mmdetection's Mask R-CNN on ResNet-50" in caplog.text
    assert "the file does not say so: for the other style name a config" in caplog.text


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"dataset_meta": {"classes": ("helmet", "vest"), "palette": [(1, 2, 3)]}}, ("helmet", "vest")),
        ({"dataset_meta": {"CLASSES": ["helmet", "vest"]}}, ("helmet", "vest")),
        ({"CLASSES": ("helmet", "vest")}, ("helmet", "vest")),
        ({"CLASSES": ("helmet",)}, ("class_0", "class_1")),  # not as many as the model has
        ({"CLASSES": 5}, ("class_0", "class_1")),
        ({}, ("class_0", "class_1")),
    ],
)
def test_classes_are_those_of_the_notes(
    meta: dict[str, Any], names: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From a whole file as mmengine writes it, through `get`."""
    config = small_config("MMDetection/faster-rcnn_r50_fpn_1x_coco.yaml", tmp_path)
    text = config.read_text() + "VERSION: 2\n"
    config.write_text(text.replace("  FPN:", "  ROI_HEADS: {NUM_CLASSES: 2}\n  FPN:"))
    model = filled(config)
    theirs = {ours: key for key, (_, ours) in EXTRA["faster_rcnn_r50_pytorch"].items()}
    state = {theirs[key]: value for key, value in model.state_dict().items()}
    with standing_in("mmengine.logging.history_buffer.HistoryBuffer") as made:
        hub = {"log_scalars": {"train/loss": made["HistoryBuffer"]()}}
        torch.save({"meta": meta, "state_dict": state, "message_hub": hub}, tmp_path / "epoch_12.pth")
    got = resnest_zoo.get(config, weights=tmp_path / "epoch_12.pth")
    assert got.categories.things == names
    assert all(torch.equal(got.state_dict()[key], value) for key, value in model.state_dict().items())
    if names[0] == "helmet":
        other = resnest_zoo.get(config, weights=tmp_path / "epoch_12.pth", categories=["vest", "helmet"])
        rows = other.state_dict()["roi_heads.box_predictor.cls_score.bias"]
        assert torch.equal(rows, state["roi_head.bbox_head.fc_cls.bias"][[1, 0, 2]]), "rows follow the names"


def test_one_class_may_be_a_text() -> None:
    keys = dict(EXTRA["faster_rcnn_r50_pytorch"])
    for key, rows in (("fc_cls", 2), ("fc_reg", 4)):
        keys[f"roi_head.bbox_head.{key}.weight"] = ([rows, 1024], "")
        keys[f"roi_head.bbox_head.{key}.bias"] = ([rows], "")
    assert recognise(checkpoint(keys, dataset_meta={"classes": "cell"})).categories.things == ("cell",)


def test_copies_of_averaged_weights_are_passed_over() -> None:
    keys = {**PLAIN, "ema_backbone_conv1_weight": PLAIN["backbone.conv1.weight"]}
    assert recognise(checkpoint(keys)).words == recognise(checkpoint(PLAIN)).words
    assert len(checkpoint(keys)) == len(checkpoint(PLAIN))


def without(keys: dict[str, Any], *starts: str) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if not key.startswith(starts)}


PLAIN = EXTRA["faster_rcnn_r50_pytorch"]
ONE = ([1], "")


@pytest.mark.parametrize(
    ("keys", "meta", "message"),
    [
        (
            PLAIN,
            {"mmdet_version": "1.2.0"},
            "mmdetection 1.2.0, which counts the background as the first class",
        ),
        (
            {**without(PLAIN, "rpn_head", "roi_head"), "bbox_head.retina_cls.weight": ONE},
            {},
            "not built here, with bbox_head.retina_cls.weight; expected Faster, Mask or Cascade R-CNN",
        ),
        ({**PLAIN, "roi_head.semantic_head.convs.0.conv.weight": ONE}, {}, r"with roi_head\.semantic_head\."),
        ({**PLAIN, "neck.fpn_convs.4.conv.weight": ONE}, {}, r"with neck\.fpn_convs\.4\.conv\.weight"),
        ({**PLAIN, "backbone.layer2.0.conv2.conv_offset.weight": ONE}, {}, r"with .*conv_offset\.weight"),
        (without(PLAIN, "roi_head"), {}, r"with no roi_head\.bbox_head\.fc_cls"),
        (without(PLAIN, "roi_head.bbox_head.fc_reg"), {}, r"with no roi_head\.bbox_head\.fc_reg"),
        (without(PLAIN, "backbone.layer3.5"), {}, r"\(3, 4, 5, 3\) blocks in its stages; expected"),
    ],
)
def test_what_is_not_built_here_is_refused_by_name(keys: Any, meta: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        recognise(checkpoint(keys, **meta))


@pytest.mark.slow
def test_a_file_of_a_users_own_is_a_model_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    keys = EXTRA["mask_rcnn_r50_caffe"]
    state = {key: torch.zeros(shape) for key, (shape, _) in keys.items()}
    torch.save({"meta": {"cfg": CAFFE}, "state_dict": state}, tmp_path / "epoch_12.pth")
    file = tmp_path / "epoch_12.pth"
    for model in (resnest_zoo.get("mask_rcnn_resnet50", weights=file), resnest_zoo.get(file)):
        assert model.preprocessing.channel_order == "BGR"
        assert model.roi_heads.mask_head is not None
    assert caplog.text.count("taken for mmdetection's Mask R-CNN") == 2
