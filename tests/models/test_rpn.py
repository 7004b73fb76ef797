from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnest_zoo.models.anchors import AnchorGenerator
from resnest_zoo.models.matching import Matcher, Sampler
from resnest_zoo.models.rpn import RPN, ProposalLimits, RPNHead, RPNTraining
from resnest_zoo.structures import Proposals
from tests.models import naive

STRIDES = (8, 16)
SIZES = ((16.0,), (32.0,))
RATIOS = (0.5, 1.0, 2.0)
WEIGHTS = (1.0, 1.0, 2.0, 2.0)
IN_TRAINING = RPNTraining(
    limits=ProposalLimits(50, 30, 0.6, 0.0),
    matcher=Matcher((0.3, 0.5), (0, -1, 1), low_quality=True),
    sampler=Sampler(1000, 0.5),
    smooth_l1_beta=0.1,
    objectness_weight=3.0,
    box_weight=2.0,
)


class Planned(nn.Module):
    """A head whose answers were decided beforehand, one for each level."""

    def __init__(self, answers: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.answers = iter(answers)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        return next(self.answers)


def planned_rpn(
    answers: list[tuple[Tensor, Tensor]],
    shapes: list[tuple[int, int]],
    images: int,
    limits: ProposalLimits = IN_TRAINING.limits,
    in_training: RPNTraining = IN_TRAINING,
) -> tuple[RPN, dict[str, Tensor]]:
    """An RPN with decided answers, and features of the right shapes."""
    names = ("p3", "p4")[: len(shapes)]
    generator = AnchorGenerator(SIZES[: len(shapes)], (RATIOS,), STRIDES[: len(shapes)], 0.0)
    rpn = RPN(names, generator, Planned(answers), limits, WEIGHTS, in_training)  # type: ignore[arg-type]
    features = {
        name: torch.zeros(images, 1, *shape, dtype=torch.float64)
        for name, shape in zip(names, shapes, strict=True)
    }
    return rpn, features


def propose(
    answers: list[tuple[Tensor, Tensor]],
    shapes: list[tuple[int, int]],
    image_sizes: tuple[tuple[int, int], ...],
    limits: ProposalLimits,
) -> list[Proposals]:
    rpn, features = planned_rpn(answers, shapes, len(image_sizes), limits)
    return rpn(features, image_sizes)


def random_answers(shapes: list[tuple[int, int]], images: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    answers = []
    for height, width in shapes:
        rows = height * width * len(RATIOS)
        logits = torch.randn(images, rows, generator=generator, dtype=torch.float64)
        deltas = torch.randn(images, rows, 4, generator=generator, dtype=torch.float64)
        answers.append((logits, deltas))
    return answers


def naive_proposals(
    answers: list[tuple[Tensor, Tensor]],
    shapes: list[tuple[int, int]],
    image: int,
    size: tuple[int, int],
    limits: ProposalLimits,
) -> tuple[np.ndarray, np.ndarray]:
    boxes, scores, levels = [], [], []
    generator = AnchorGenerator(SIZES, (RATIOS,), STRIDES, 0.0)
    anchors = generator([torch.zeros(1, 1, *shape, dtype=torch.float64) for shape in shapes])
    for level, (logits, deltas) in enumerate(answers):
        best = sorted(range(logits.shape[1]), key=lambda i: -logits[image, i])[: limits.pre_nms_topk]
        for i in best:
            box = naive.decode(deltas[image, i].numpy(), anchors[level][i].numpy(), WEIGHTS)
            box = naive.clip(box, size)
            if min(box[2] - box[0], box[3] - box[1]) > limits.min_side:
                boxes.append(box)
                scores.append(float(logits[image, i]))
                levels.append(level)
    kept = naive.suppress(np.array(boxes), np.array(scores), np.array(levels), limits.nms_thresh)
    kept = kept[: limits.post_nms_topk]
    return np.array(boxes)[kept], np.array(scores)[kept]


@pytest.mark.parametrize(
    "limits",
    [
        ProposalLimits(1000, 1000, 0.7, 0.0),
        ProposalLimits(20, 15, 0.5, 0.0),
        ProposalLimits(60, 40, 0.3, 9.0),
    ],
)
def test_proposals_equal_a_loop(limits):
    shapes, image_sizes = [(6, 8), (3, 4)], ((48, 64), (33, 50))
    answers = random_answers(shapes, images=2)
    got = propose(answers, shapes, image_sizes, limits)
    for image, size in enumerate(image_sizes):
        boxes, logits = naive_proposals(answers, shapes, image, size, limits)
        assert np.allclose(got[image].boxes.numpy(), boxes, rtol=0, atol=1e-9)
        assert np.allclose(got[image].objectness_logits.numpy(), logits, rtol=0, atol=0)
        assert got[image].image_size == size


def test_a_box_is_suppressed_by_its_own_level_only():
    """The same box on two levels stays twice; twice on one level it stays once."""
    shapes = [(1, 1), (1, 1)]
    target = torch.tensor([2.0, 2.0, 20.0, 20.0], dtype=torch.float64)
    answers = []
    for level in range(2):
        generator = AnchorGenerator((SIZES[level],), (RATIOS,), (STRIDES[level],), 0.0)
        (anchors,) = generator([torch.zeros(1, 1, 1, 1, dtype=torch.float64)])
        sizes, centres = anchors[:, 2:] - anchors[:, :2], (anchors[:, 2:] + anchors[:, :2]) / 2
        shift = (torch.tensor([11.0, 11.0]).double() - centres) / sizes
        growth = 2 * (torch.tensor([18.0, 18.0]).double() / sizes).log()
        answers.append(
            (torch.tensor([[3.0, 2.0, 1.0]]).double() - level, torch.cat((shift, growth), 1)[None])
        )
    (got,) = propose(answers, shapes, ((32, 32),), ProposalLimits(10, 10, 0.7, 0.0))
    assert torch.allclose(got.boxes, target.expand(2, 4))
    assert got.objectness_logits.tolist() == [3.0, 2.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_are_dropped(bad):
    shapes = [(2, 2)]
    ((logits, _),) = random_answers(shapes, images=1)
    deltas = torch.zeros(1, 12, 4, dtype=torch.float64)  # every anchor reaches into the picture
    logits[0, 3] = bad
    deltas[0, 5, 0] = bad
    everything = ProposalLimits(100, 100, 1.0, 0.0)
    (got,) = propose([(logits, deltas)], shapes, ((32, 32),), everything)
    expected = sorted((x for i, x in enumerate(logits[0].tolist()) if i not in (3, 5)), reverse=True)
    assert got.objectness_logits.tolist() == expected
    assert got.boxes.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_no_valid_row_is_no_proposal(value):
    """All NaN, or all boxes clipped to nothing."""
    shapes = [(2, 2)]
    logits, deltas = torch.zeros(1, 12).double(), torch.full((1, 12, 4), value).double()
    deltas[:, :, 0] -= 100.0
    (got,) = propose([(logits, deltas)], shapes, ((32, 32),), ProposalLimits(100, 100, 0.7, 0.0))
    assert got.boxes.shape == (0, 4)
    assert got.objectness_logits.shape == (0,)


def test_the_head_orders_its_outputs_as_the_anchors_stand():
    """Row by row, and at each cell anchor by anchor."""
    head = RPNHead(2, 3).double()
    for parameter in head.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits, deltas = head(x)
    hidden = head.conv(x).relu()
    raw_logits, raw_deltas = head.objectness_logits(hidden), head.anchor_deltas(hidden)
    assert logits.shape == (2, 4 * 5 * 3)
    assert deltas.shape == (2, 4 * 5 * 3, 4)
    for row, col, anchor in ((0, 0, 0), (1, 3, 2), (3, 4, 1)):
        at = (row * 5 + col) * 3 + anchor
        assert torch.equal(logits[:, at], raw_logits[:, anchor, row, col])
        assert torch.equal(deltas[:, at], raw_deltas[:, 4 * anchor : 4 * anchor + 4, row, col])
