from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from resnest_zoo.models.cascade import CascadeROIHeads
from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.models.matching import Matcher
from resnest_zoo.models.roi_heads import BoxHead, BoxPredictor, DetectionLimits, ROIPooler, select_detections
from resnest_zoo.ops.boxes import decode_boxes
from resnest_zoo.structures import Proposals
from tests.models.test_roi_heads import NAMES, SAMPLING, SIZE, STRIDES, proposals, pyramid

WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def cascade(
    score_thresh: float = 0.2, mask_branch: tuple[ROIPooler, nn.Module] | None = None
) -> CascadeROIHeads:
    torch.manual_seed(0)
    box_heads = nn.ModuleList(BoxHead(3, 2, (), (6,), "") for _ in WEIGHTS)
    predictors = nn.ModuleList(BoxPredictor(6, 4, True, weights) for weights in WEIGHTS)
    for predictor in predictors:
        predictor.cls_score.weight.data.mul_(100)  # type: ignore[operator, union-attr]
        predictor.bbox_pred.weight.data.mul_(3000)  # type: ignore[operator, union-attr]
    limits = DetectionLimits(score_thresh, 0.5, 10)
    sampling = replace(SAMPLING, matchers=tuple(Matcher((iou,), (0, 1)) for iou in (0.5, 0.6, 0.7)))
    pooler = ROIPooler(NAMES, STRIDES, 2, 0)
    return CascadeROIHeads(pooler, box_heads, predictors, limits, sampling, mask_branch).double().eval()


@torch.no_grad()
def stage_by_stage(
    heads: CascadeROIHeads, features: dict[str, Tensor], given: Proposals
) -> tuple[Tensor, Tensor]:
    """One image: boxes of the last stage, and the mean of the three probabilities, or of their logits."""
    boxes, probs, all_logits = given.boxes, [], []
    for head, predictor, weights in zip(heads.box_head, heads.box_predictor, WEIGHTS, strict=True):
        start = clip_boxes_to_image(boxes, SIZE)
        logits, deltas = predictor(head(heads.box_pooler(features, [start])))
        boxes = decode_boxes(deltas, start, weights)
        probs.append(logits.softmax(1))
        all_logits.append(logits)
    if heads.average_logits:
        return boxes, (sum(all_logits) / 3).softmax(1)
    return boxes, (probs[0] + probs[1] + probs[2]) / 3


@pytest.mark.parametrize("average_logits", [False, True])
@torch.no_grad()
def test_each_stage_starts_from_the_clipped_boxes_of_the_last_and_scores_are_the_mean(average_logits):
    heads, features, given = cascade(), pyramid(2), proposals([8, 5])
    heads.average_logits = average_logits
    got = heads.detect_boxes(features, given)
    for image in range(2):
        alone = {name: level[image : image + 1] for name, level in features.items()}
        boxes, scores = stage_by_stage(heads, alone, given[image])
        reaches_out = (boxes < 0).any() or (boxes > torch.tensor([SIZE[1], SIZE[0]] * 2)).any()
        assert reaches_out, "no box would show whether it was clipped"
        expected = select_detections(boxes, scores, SIZE, heads.limits)
        assert len(expected.scores) > 0
        assert torch.allclose(got[image].boxes, expected.boxes, rtol=0, atol=1e-9)
        assert torch.allclose(got[image].scores, expected.scores, rtol=0, atol=1e-12)
        assert torch.equal(got[image].classes, expected.classes)


@torch.no_grad()
def test_sides_are_clamped_in_every_stage_where_asked():
    features, given = pyramid(1), proposals([6])
    found = []
    for clamp_shrink in (False, True):
        heads = cascade(score_thresh=0.0)
        for predictor in heads.box_predictor:
            predictor.clamp_shrink = clamp_shrink  # type: ignore[assignment]
            predictor.bbox_pred.weight.data.zero_()  # type: ignore[operator, union-attr]
            predictor.bbox_pred.bias.data[2:] = -1e3  # type: ignore[index, union-attr]
        found.append(heads.detect_boxes(features, given)[0].boxes)
    assert not (found[0][:, 2:] - found[0][:, :2]).any(), "nothing limits the reference's"
    assert (found[1][:, 2:] > found[1][:, :2]).all()


def masked_cascade() -> CascadeROIHeads:
    """With a mask head for each stage."""
    heads = nn.ModuleList(MaskHead(3, (4, 4), 4, False, "") for _ in WEIGHTS)
    for head in heads:
        head.predictor.weight.data.normal_()  # type: ignore[operator, union-attr]
    return cascade(mask_branch=(ROIPooler(NAMES, STRIDES, 7, 0), heads))


@torch.no_grad()
def test_masks_are_the_mean_of_the_stages_probabilities_in_the_final_boxes():
    heads, features = masked_cascade(), pyramid(2)
    found = heads.add_masks(features, heads.detect_boxes(features, proposals([8, 5])))
    assert all(len(d.boxes) for d in found)
    for image, d in enumerate(found):
        alone = {name: level[image : image + 1] for name, level in features.items()}
        pooled = heads.mask_pooler(alone, [d.boxes])
        of_stages = [head(pooled, d.classes) for head in heads.mask_head]
        assert not torch.allclose(of_stages[0], of_stages[1], atol=1e-3)
        assert torch.allclose(d.mask_probs, sum(of_stages) / 3, rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [[0], [0, 3], [0, 0]])
@torch.no_grad()
def test_a_picture_without_proposals_has_no_detections(counts):
    got = cascade().detect_boxes(pyramid(len(counts)), proposals(counts))
    assert got[0].boxes.shape == (0, 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@torch.no_grad()
def test_a_stage_that_diverged_costs_its_own_rows_only(value):
    """Rows of the first stage that are not finite never come out, and crash nothing on the way."""
    heads, features, given = cascade(score_thresh=0.0), pyramid(1), proposals([6])
    original = heads.box_predictor[0].forward

    def broken(x: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = original(x)
        deltas[2] = value
        return logits, deltas

    heads.limits = DetectionLimits(0.0, 1.0, 100)
    expected = heads.detect_boxes(features, given)[0]
    heads.box_predictor[0].forward = broken
    got = heads.detect_boxes(features, given)[0]
    assert got.boxes.isfinite().all()
    assert got.scores.isfinite().all()
    kept = {round(score, 9) for score in got.scores.tolist()}
    assert len(kept & {round(score, 9) for score in expected.scores.tolist()}) == 5 * 4
