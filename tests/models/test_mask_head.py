from __future__ import annotations

import pytest
import torch

from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.models.roi_heads import BoxHead, BoxPredictor, DetectionLimits, ROIHeads, ROIPooler
from resnest_zoo.structures import Detections
from tests.models.test_roi_heads import NAMES, SAMPLING, SIZE, STRIDES, pyramid, random_boxes


def mask_head(class_agnostic: bool = False) -> MaskHead:
    torch.manual_seed(0)
    head = MaskHead(3, (4, 5, 7), 6, class_agnostic, "").double()
    head.predictor.weight.data.normal_()
    return head


@torch.no_grad()
def test_each_box_gets_the_mask_of_its_own_class():
    head, x = mask_head(), torch.randn(4, 3, 7, 7, dtype=torch.float64)
    logits = head.logits(x)
    assert logits.shape == (4, 6, 14, 14)
    got = head(x, torch.tensor([5, 0, 3, 3]))
    for row, k in enumerate((5, 0, 3, 3)):
        assert torch.equal(got[row], logits[row, k].sigmoid())


@torch.no_grad()
def test_the_head_is_convolutions_upsampling_and_a_predictor():
    head, x = mask_head(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    expected = head.predictor(head.deconv(head.mask_fcn2(head.mask_fcn1(x).relu()).relu()).relu())
    assert torch.equal(head.logits(x), expected)


@torch.no_grad()
def test_a_class_agnostic_head_has_one_mask_for_all_classes():
    head, x = mask_head(class_agnostic=True), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    got = head(x, torch.tensor([5, 0]))
    assert torch.equal(got, head.logits(x)[:, 0].sigmoid())


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_no_boxes_no_masks(class_agnostic):
    got = mask_head(class_agnostic)(torch.zeros(0, 3, 7, 7).double(), torch.zeros(0, dtype=torch.int64))
    assert got.shape == (0, 14, 14)


@torch.no_grad()
def test_masks_are_predicted_in_the_detected_boxes_of_each_image():
    head = mask_head()
    box_parts = (BoxHead(3, 2, (), (6,), ""), BoxPredictor(6, 6, False, (1.0, 1.0, 1.0, 1.0)))
    pooler = ROIPooler(NAMES, STRIDES, 7, 0)
    limits = DetectionLimits(0.05, 0.5, 10)
    roi_heads = ROIHeads(pooler, *box_parts, limits, SAMPLING, (pooler, head)).double()
    counts = [3, 0, 2]
    detections = [Detections(random_boxes(n, n), torch.ones(n), torch.arange(n) % 6, SIZE) for n in counts]
    features = pyramid(3)
    got = roi_heads.add_masks(features, detections)
    assert [tuple(d.mask_probs.shape) for d in got] == [(n, 14, 14) for n in counts]
    for image in (0, 2):
        alone = {name: level[image : image + 1] for name, level in features.items()}
        pooled = pooler(alone, [detections[image].boxes])
        assert torch.allclose(got[image].mask_probs, head(pooled, detections[image].classes), rtol=1e-12)
        assert got[image].boxes is detections[image].boxes
