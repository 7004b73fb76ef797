from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.errors import ZooError
from resnest_zoo.models.anchors import AnchorGenerator
from resnest_zoo.models.matching import Sampler
from resnest_zoo.models.rpn import RPNTraining
from resnest_zoo.structures import Targets
from tests.models import naive
from tests.models.test_rpn import (
    IN_TRAINING,
    RATIOS,
    SIZES,
    STRIDES,
    WEIGHTS,
    naive_proposals,
    planned_rpn,
    random_answers,
)

SHAPES, IMAGE_SIZES = [(6, 8), (3, 4)], ((48, 64), (33, 50))


def targets(counts: tuple[int, int] = (3, 2)) -> list[Targets]:
    boxes = torch.tensor([[4.0, 5, 30, 40], [20, 8, 60, 30], [35, 20, 50, 44]], dtype=torch.float64)
    return [Targets(boxes[:n] * 0.7, torch.zeros(n, dtype=torch.int64)) for n in counts]


def answers(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(a.requires_grad_(), b.requires_grad_()) for a, b in random_answers(SHAPES, 2, seed)]


def losses(
    given: list[tuple[Tensor, Tensor]],
    real: list[Targets],
    settings: RPNTraining = IN_TRAINING,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    rpn, features = planned_rpn(given, SHAPES, 2, in_training=settings)
    return rpn.losses(features, IMAGE_SIZES, real, generator)[0]


def all_anchors() -> np.ndarray:
    generator = AnchorGenerator(SIZES, (RATIOS,), STRIDES, 0.0)
    maps = [torch.zeros(1, 1, *shape, dtype=torch.float64) for shape in SHAPES]
    return torch.cat(generator(maps)).numpy()


def naive_losses(
    given: list[tuple[Tensor, Tensor]], real: list[Targets], settings: RPNTraining, chosen: list[set[int]]
) -> tuple[float, float]:
    """Both sums over the `chosen` anchors of each picture, divided by what a full sample would hold."""
    matcher, anchors = settings.matcher, all_anchors()
    objectness = boxes = 0.0
    for image, target in enumerate(real):
        logits = torch.cat([a[image] for a, _ in given]).tolist()
        deltas = torch.cat([b[image] for _, b in given]).detach().numpy()
        indices, labels = naive.match(
            target.boxes.numpy(), anchors, matcher.thresholds, matcher.labels, matcher.low_quality
        )
        for row in chosen[image]:
            if labels[row] >= 0:
                objectness += naive.binary_cross_entropy(logits[row], labels[row] == 1)
            if labels[row] == 1:
                wanted = naive.encode(target.boxes[indices[row]].numpy(), anchors[row], WEIGHTS)
                boxes += naive.smooth_l1(deltas[row], wanted, settings.smooth_l1_beta)
    count = settings.sampler.batch_size * len(real)
    return objectness * settings.objectness_weight / count, boxes * settings.box_weight / count


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("counts", [(3, 2), (3, 0), (0, 0)])
def test_losses_of_all_anchors_equal_a_loop(counts, beta):
    given, real = answers(), targets(counts)
    settings = replace(IN_TRAINING, smooth_l1_beta=beta)
    got = losses(given, real, settings)
    everything = set(range(len(all_anchors())))
    expected = naive_losses(given, real, settings, [everything, everything])
    assert list(got) == ["loss_rpn_cls", "loss_rpn_loc"]
    assert [float(x.detach()) for x in got.values()] == pytest.approx(expected, rel=1e-12)
    assert (expected[1] > 0) == any(counts)


def test_only_sampled_anchors_count_and_only_positive_ones_learn_boxes():
    given, real = answers(), targets()
    settings = replace(IN_TRAINING, sampler=Sampler(12, 0.5))
    got = losses(given, real, settings, torch.Generator().manual_seed(3))
    sum(got.values()).backward()
    chosen, positive = [], []
    for image, target in enumerate(real):
        logits = torch.cat([a.grad[image] for a, _ in given])
        deltas = torch.cat([b.grad[image] for _, b in given])
        chosen.append(set(logits.nonzero().flatten().tolist()))
        positive.append(set(deltas.abs().sum(1).nonzero().flatten().tolist()))
        _, labels = naive.match(target.boxes.numpy(), all_anchors(), (0.3, 0.5), (0, -1, 1), True)
        assert len(chosen[image]) == 12
        assert {row for row in chosen[image] if labels[row] == 1} == positive[image]
        assert 0 < len(positive[image]) <= 6
    expected = naive_losses(given, real, settings, chosen)
    assert [float(x.detach()) for x in got.values()] == pytest.approx(expected, rel=1e-12)


def test_the_generator_decides_the_sample():
    settings = replace(IN_TRAINING, sampler=Sampler(12, 0.5))

    def loss(seed: int) -> float:
        got = losses(answers(), targets(), settings, torch.Generator().manual_seed(seed))
        return float(got["loss_rpn_cls"].detach())

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_without_any_target_the_box_loss_is_zero_and_has_a_gradient():
    given = answers()
    got = losses(given, targets((0, 0)))
    assert float(got["loss_rpn_loc"].detach()) == 0.0
    sum(got.values()).backward()
    assert all(not b.grad.any() for _, b in given)
    assert all(a.grad.any() for a, _ in given)


def test_the_proposals_of_a_step_follow_its_own_limits_and_carry_no_gradient():
    given = answers()
    rpn, features = planned_rpn(given, SHAPES, 2)
    _, proposals = rpn.losses(features, IMAGE_SIZES, targets())
    for image, size in enumerate(IMAGE_SIZES):
        boxes, logits = naive_proposals(
            [(a.detach(), b.detach()) for a, b in given], SHAPES, image, size, IN_TRAINING.limits
        )
        assert np.allclose(proposals[image].boxes.numpy(), boxes, rtol=0, atol=1e-9)
        assert np.allclose(proposals[image].objectness_logits.numpy(), logits, rtol=0, atol=0)
        assert not proposals[image].boxes.requires_grad
        assert not proposals[image].objectness_logits.requires_grad


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_proposals_that_are_not_finite_stop_the_step(where, bad):
    given = random_answers(SHAPES, 2)
    given[0][where][1, 5] = bad
    if where:
        given[0][0][1, 5] = 100.0  # else the bad box may not be among the best
    with pytest.raises(ZooError, match="the RPN's proposals hold NaN"):
        losses(given, targets())
