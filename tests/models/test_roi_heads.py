from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from resnest_zoo.models.matching import Matcher, ProposalSampling, Sampler
from resnest_zoo.models.roi_heads import (
    BoxHead,
    BoxPredictor,
    DetectionLimits,
    ROIHeads,
    ROIPooler,
    select_detections,
)
from resnest_zoo.ops.boxes import decode_boxes
from resnest_zoo.structures import Proposals
from tests.models import naive

SIZE = (60, 80)
NAMES, STRIDES = ("p2", "p3", "p4", "p5"), (4, 8, 16, 32)
SAMPLING = ProposalSampling((Matcher((0.5,), (0, 1)),), Sampler(1000, 0.25), append_targets=True)


def random_boxes(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator, dtype=torch.float64)
    corners = corners * torch.tensor([size[1], size[0]])
    return torch.cat((corners.amin(1), corners.amax(1) + 1), dim=1)


def pyramid(images: int, channels: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(images, channels, 512 // s, 512 // s, generator=generator, dtype=torch.float64)
        for name, s in zip(NAMES, STRIDES, strict=True)
    }


# Pooling


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (0, 0, 0),
        (0, 50, 0),
        (1, 1, 0),
        (111.9, 112, 0),
        (112, 112, 1),
        (223.9, 224, 1),
        (224, 224, 2),
        (448, 112, 2),
        (447.9, 448, 2),
        (448, 448, 3),
        (5000, 5000, 3),
    ],
)
def test_a_box_is_pooled_from_the_level_that_suits_its_size(width, height, level):
    pooler = ROIPooler(NAMES, STRIDES, 2, 0)
    box = torch.tensor([[10.0, 20.0, 10.0 + width, 20.0 + height]], dtype=torch.float64)
    assert pooler._assign_levels(box).tolist() == [level]


def test_pooling_keeps_the_order_of_images_and_boxes():
    features = pyramid(2)
    boxes = [random_boxes(9, 1, (500, 500)), random_boxes(5, 2, (200, 100))]
    pooler = ROIPooler(NAMES, STRIDES, 3, 2)
    got = pooler(features, boxes)
    at = 0
    levels = set()
    for image, image_boxes in enumerate(boxes):
        for box in image_boxes:
            level = int(pooler._assign_levels(box[None]))
            levels.add(level)
            roi = torch.cat((torch.tensor([float(image)]).double(), box))[None]
            expected = roi_align(features[NAMES[level]], roi, 3, 1 / STRIDES[level], 2, aligned=True)
            assert torch.allclose(got[at], expected[0], rtol=1e-12)
            at += 1
    assert len(levels) > 2
    assert at == len(got)


def test_gradients_of_pooled_boxes_reach_the_level_of_each():
    features = {name: level.requires_grad_() for name, level in pyramid(2).items()}
    boxes = [random_boxes(9, 1, (500, 500)), random_boxes(5, 2, (200, 100))]
    pooler = ROIPooler(NAMES, STRIDES, 2, 2)
    weights = torch.rand(14, 3, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (pooler(features, boxes) * weights).sum().backward()
    levels = pooler._assign_levels(torch.cat(boxes))
    assert len(levels.unique()) > 2
    for index, (name, stride) in enumerate(zip(NAMES, STRIDES, strict=True)):
        alone = features[name].detach().requires_grad_()
        at = levels == index
        rois = torch.cat(((torch.arange(14) > 8)[:, None].double(), torch.cat(boxes)), dim=1)[at]
        (roi_align(alone, rois, 2, 1 / stride, 2, aligned=True) * weights[at]).sum().backward()
        assert torch.equal(features[name].grad, alone.grad)


def test_pooling_nothing_gives_nothing_of_the_right_shape():
    got = ROIPooler(NAMES, STRIDES, 7, 0)(
        pyramid(2), [torch.zeros(0, 4).double(), torch.zeros(0, 4).double()]
    )
    assert got.shape == (0, 3, 7, 7)


def test_a_box_that_is_not_finite_does_not_reach_roi_align():
    """It would read memory out of bounds, or ask for all of it."""
    boxes = random_boxes(3)
    good = boxes.clone()
    boxes[1, 2] = float("nan")
    pooler = ROIPooler(NAMES, STRIDES, 2, 0)
    got, expected = pooler(pyramid(1), [boxes]), pooler(pyramid(1), [good])
    assert torch.equal(got[[0, 2]], expected[[0, 2]])
    assert got.isfinite().all()


# Selecting detections


def naive_detections(
    boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int], limits: DetectionLimits
) -> tuple[list[np.ndarray], list[float], list[int]]:
    candidates = []
    for row in range(len(boxes)):
        if not (np.isfinite(boxes[row]).all() and np.isfinite(scores[row]).all()):
            continue
        for k in range(scores.shape[1] - 1):
            if scores[row, k] > limits.score_thresh:
                box = boxes[row] if boxes.shape[1] == 4 else boxes[row, 4 * k : 4 * k + 4]
                candidates.append((naive.clip(box, size), scores[row, k], k))
    if not candidates:
        return [], [], []
    kept = naive.suppress(
        np.array([c[0] for c in candidates]),
        np.array([c[1] for c in candidates]),
        np.array([c[2] for c in candidates]),
        limits.nms_thresh,
    )
    chosen = [candidates[i] for i in kept[: limits.topk]]
    return [c[0] for c in chosen], [c[1] for c in chosen], [c[2] for c in chosen]


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize(
    "limits",
    [DetectionLimits(0.05, 0.5, 100), DetectionLimits(0.3, 0.2, 5), DetectionLimits(0.0, 1.0, 1000)],
)
def test_detections_equal_a_loop(class_agnostic, limits):
    classes = 4
    rows = [random_boxes(30, seed) - 5 for seed in range(1 if class_agnostic else classes)]
    boxes = torch.cat(rows, dim=1)
    generator = torch.Generator().manual_seed(9)
    scores = (2 * torch.randn(30, classes + 1, generator=generator, dtype=torch.float64)).softmax(1)
    boxes[3, 1] = float("nan")
    scores[7, 2] = float("nan")
    scores[8, classes] = float("inf")
    got = select_detections(boxes, scores, SIZE, limits)
    expected = naive_detections(boxes.numpy(), scores.numpy(), SIZE, limits)
    assert len(got.scores) == len(expected[1]) > 0
    assert np.allclose(got.boxes.numpy(), np.array(expected[0]), rtol=0, atol=1e-9)
    assert got.scores.tolist() == pytest.approx(expected[1], abs=0)
    assert got.classes.tolist() == expected[2]
    assert got.classes.dtype == torch.int64
    assert got.image_size == SIZE


def test_a_score_must_exceed_the_threshold():
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([[0.5, 0.5], [0.5000001, 0.4]])
    got = select_detections(boxes, scores, SIZE, DetectionLimits(0.5, 0.5, 10))
    assert got.boxes.tolist() == [[20.0, 20.0, 30.0, 30.0]]


def test_classes_do_not_suppress_each_other():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.9]])
    scores = torch.tensor([[0.9, 0.0, 0.1], [0.8, 0.7, 0.0]])
    got = select_detections(boxes, scores, SIZE, DetectionLimits(0.05, 0.5, 10))
    assert got.classes.tolist() == [0, 1]
    assert got.boxes[:, 3].tolist() == [9.0, pytest.approx(8.9)]


def test_background_is_never_a_detection():
    got = select_detections(
        torch.tensor([[0.0, 0.0, 9.0, 9.0]]),
        torch.tensor([[0.01, 0.99]]),
        SIZE,
        DetectionLimits(0.05, 0.5, 10),
    )
    assert len(got.scores) == 0


@pytest.mark.parametrize("columns", [4, 12])
@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_found_is_an_empty_result(rows, columns):
    scores = torch.full((rows, 4), 0.01)
    got = select_detections(torch.zeros(rows, columns), scores, SIZE, DetectionLimits(0.05, 0.5, 10))
    assert got.boxes.shape == (0, 4)
    assert got.scores.shape == (0,)
    assert got.classes.shape == (0,)
    assert got.classes.dtype == torch.int64


# The heads


def heads(class_agnostic: bool = False, conv_dims: tuple[int, ...] = (5,)) -> ROIHeads:
    torch.manual_seed(0)
    head = BoxHead(3, 2, conv_dims, (6, 7), "")
    predictor = BoxPredictor(7, 4, class_agnostic, (10.0, 10.0, 5.0, 5.0))
    predictor.cls_score.weight.data.mul_(100)
    limits = DetectionLimits(0.2, 0.5, 10)
    return ROIHeads(ROIPooler(NAMES, STRIDES, 2, 0), head, predictor, limits, SAMPLING).double().eval()


def proposals(counts: list[int]) -> list[Proposals]:
    return [Proposals(random_boxes(n, i), torch.zeros(n), SIZE) for i, n in enumerate(counts)]


def test_the_box_head_is_convolutions_then_linear_layers_with_relu():
    head = BoxHead(3, 2, (5,), (6, 7), "").double()
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    expected = head.fc2(head.fc1(head.conv1(x).relu().flatten(1)).relu()).relu()
    assert torch.equal(head(x), expected)
    assert head.out_features == 7
    assert BoxHead(3, 2, (5,), (), "").out_features == 5 * 2 * 2


@pytest.mark.parametrize("class_agnostic", [False, True])
@torch.no_grad()
def test_boxes_are_decoded_from_their_proposals_and_kept_by_image(class_agnostic):
    roi_heads, features, given = heads(class_agnostic), pyramid(2), proposals([6, 9])
    got = roi_heads.detect_boxes(features, given)
    for image in range(2):
        alone = {name: level[image : image + 1] for name, level in features.items()}
        pooled = roi_heads.box_pooler(alone, [given[image].boxes])
        logits, deltas = roi_heads.box_predictor(roi_heads.box_head(pooled))
        assert deltas.shape == (len(pooled), 4 if class_agnostic else 16)
        boxes = decode_boxes(deltas, given[image].boxes, (10.0, 10.0, 5.0, 5.0))
        expected = select_detections(boxes, logits.softmax(1), SIZE, roi_heads.limits)
        assert len(expected.scores) > 0
        assert torch.allclose(got[image].boxes, expected.boxes, rtol=0, atol=1e-9)
        assert torch.allclose(got[image].scores, expected.scores, rtol=0, atol=1e-12)
        assert torch.equal(got[image].classes, expected.classes)


@pytest.mark.parametrize("counts", [[0], [0, 0], [0, 4]])
@torch.no_grad()
def test_a_picture_without_proposals_has_no_detections(counts):
    got = heads().detect_boxes(pyramid(len(counts)), proposals(counts))
    assert len(got) == len(counts)
    assert got[0].boxes.shape == (0, 4)


def test_without_a_mask_head_detections_stay_as_they_are():
    detections = heads().select(torch.zeros(0, 16), torch.zeros(0, 5), proposals([0]))
    assert heads().add_masks({}, detections) is detections
