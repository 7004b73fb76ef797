from __future__ import annotations

import pytest
import torch

from resnest_zoo.categories import COCO_PANOPTIC, Categories
from resnest_zoo.config import Config, load_config
from resnest_zoo.errors import ConfigError
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.models.cascade import CascadeROIHeads
from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.registry import info
from tests.models.tiny import CASCADE, MASK, MMDETECTION, tiny_model


def build(name: str, categories: Categories | None, **overrides: object) -> GeneralizedRCNN:
    config = info(name).config
    assert config is not None
    cfg = load_config(config).override({key.replace("__", "."): value for key, value in overrides.items()})
    with torch.device("meta"):
        return build_model(cfg, categories)


def test_names_that_are_not_given_are_those_of_coco_or_placeholders() -> None:
    assert build("panoptic_resnest200_3x", None).categories == COCO_PANOPTIC
    few = build("faster_rcnn_resnet50", None, MODEL__ROI_HEADS__NUM_CLASSES=2)
    assert few.categories.things == ("class_0", "class_1")


def test_a_panoptic_model_never_lacks_its_stuff() -> None:
    things = Categories.named(["helmet", "vest"])
    model = build("panoptic_resnest200_3x", things, MODEL__ROI_HEADS__NUM_CLASSES=2)
    assert model.categories.things == ("helmet", "vest")
    assert model.categories.stuff == COCO_PANOPTIC.stuff
    other = build("panoptic_resnest200_3x", None, MODEL__SEM_SEG_HEAD__NUM_CLASSES=3)
    assert other.categories.stuff == ("things", "stuff_1", "stuff_2")
    with pytest.raises(ConfigError, match=r"54 stuff names for MODEL\.SEM_SEG_HEAD\.NUM_CLASSES 3"):
        build("panoptic_resnest200_3x", COCO_PANOPTIC, MODEL__SEM_SEG_HEAD__NUM_CLASSES=3)


def test_a_config_that_describes_no_detector_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no detector can be built from this config\n.*MODEL\.BACKBONE"):
        build_model(Config())


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1 category names for MODEL\.ROI_HEADS\.NUM_CLASSES 80"):
        build("faster_rcnn_resnet50", Categories.named(["helmet"]))


def test_what_mmdetection_computes_otherwise_is_built_where_the_config_says_so() -> None:
    plain, theirs = (tiny_model(*CASCADE, *MASK, *more) for more in ((), MMDETECTION))
    for model, clamped in ((plain, False), (theirs, True)):
        heads = model.roi_heads
        assert isinstance(heads, CascadeROIHeads)
        assert heads.average_logits is clamped
        assert model.proposal_generator.clamp_shrink is clamped
        assert [p.clamp_shrink for p in heads.box_predictor] == [clamped] * 3
    assert isinstance(plain.roi_heads.mask_head, MaskHead)
    assert [type(head) for head in theirs.roi_heads.mask_head] == [MaskHead] * 3
    assert [key for key in theirs.state_dict() if "mask_head" in key and "predictor.bias" in key] == [
        f"roi_heads.mask_head.{stage}.predictor.bias" for stage in range(3)
    ]
    assert {f"roi_heads.mask_head.{stage}.predictor" for stage in range(3)} <= set(theirs.class_layers)


@pytest.mark.parametrize("convolutions", [0, 1])
def test_the_width_of_the_mask_head_is_that_of_its_upsampling_too(convolutions: int) -> None:
    """As detectron2's MaskRCNNConvUpsampleHead, whose last width is the upsampling's."""
    keys = ("MODEL.ROI_MASK_HEAD.NUM_CONV", str(convolutions), "MODEL.ROI_MASK_HEAD.CONV_DIM", "12")
    head = tiny_model(*MASK, *keys).roi_heads.mask_head
    assert isinstance(head, MaskHead)
    assert head.num_convs == convolutions
    assert tuple(head.deconv.weight.shape) == (12 if convolutions else 8, 12, 2, 2)  # from FPN.OUT_CHANNELS
    assert head.predictor.weight.shape[1] == 12
