from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.errors import ZooError
from resnest_zoo.models import matching
from resnest_zoo.models.matching import Matcher, ProposalSampling, Sampler, Samples, require_finite
from resnest_zoo.structures import Proposals, Targets
from tests.models import naive
from tests.models.test_roi_heads import SAMPLING, SIZE, random_boxes

RPN_STYLE = Matcher((0.3, 0.7), (0, -1, 1), low_quality=True)
ROI_STYLE = Matcher((0.5,), (0, 1))


def overlapping(count: int, seed: int) -> Tensor:
    """Boxes near each other, so that every range of overlap occurs."""
    return random_boxes(count, seed, (12, 12)) + 5


# Matching


@pytest.mark.parametrize("matcher", [RPN_STYLE, ROI_STYLE, replace(RPN_STYLE, low_quality=False)])
@pytest.mark.parametrize(("targets", "boxes"), [(6, 80), (1, 9), (9, 1)])
def test_matching_equals_a_loop(matcher, targets, boxes):
    real, candidates = overlapping(targets, 1), overlapping(boxes, 2)
    indices, labels = matcher(real, candidates)
    expected = naive.match(
        real.numpy(), candidates.numpy(), matcher.thresholds, matcher.labels, matcher.low_quality
    )
    assert indices.tolist() == expected[0]
    assert labels.tolist() == expected[1]
    assert indices.dtype == torch.int64


@pytest.mark.parametrize("pairs", [1, 7, 60, 200])
@pytest.mark.parametrize("matcher", [RPN_STYLE, ROI_STYLE])
def test_matching_in_pieces_gives_the_same(matcher, pairs, monkeypatch):
    """Also where the best box of a target, or its equal, lies in another piece."""
    real, candidates = overlapping(6, 1), overlapping(40, 2)
    candidates = torch.cat((candidates, candidates.flip(0)))
    whole = matcher(real, candidates)
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", pairs)
    for a, b in zip(matcher(real, candidates), whole, strict=True):
        assert torch.equal(a, b)


def test_a_threshold_belongs_to_the_range_above_it():
    target = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    halves = torch.tensor([[0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 4.9]])
    assert ROI_STYLE(target, halves)[1].tolist() == [1, 0]


def test_every_best_box_of_a_target_is_positive_but_keeps_its_own_target():
    """The second box is the best there is for the small target, yet overlaps the large one more."""
    targets = torch.tensor([[0.0, 0.0, 10.0, 10.0], [9.0, 9.0, 12.0, 12.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    assert naive.iou(boxes[1].numpy(), targets[1].numpy()) > naive.iou(boxes[0].numpy(), targets[1].numpy())
    indices, labels = RPN_STYLE(targets, boxes)
    assert labels.tolist() == [1, 1, 0]
    assert indices[1] == 0


def test_boxes_that_are_equally_good_are_all_positive():
    target = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = torch.tensor([[8.0, 8.0, 12.0, 12.0], [-2.0, -2.0, 2.0, 2.0], [9.0, 9.0, 13.0, 13.0]])
    assert RPN_STYLE(target, boxes)[1].tolist() == [1, 1, 0]


def test_a_target_that_nothing_overlaps_makes_every_box_positive():
    targets = torch.tensor([[0.0, 0.0, 10.0, 10.0], [90.0, 90.0, 99.0, 99.0]])
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [30.0, 30.0, 40.0, 40.0]])
    assert RPN_STYLE(targets, boxes)[1].tolist() == [1, 1]
    assert naive.match(targets.numpy(), boxes.numpy(), (0.3, 0.7), (0, -1, 1), True)[1] == [1, 1]


@pytest.mark.parametrize("first", [0, -1])
@pytest.mark.parametrize("boxes", [0, 3])
def test_without_targets_every_box_has_the_first_label(boxes, first):
    matcher = Matcher((0.5,), (first, 1), low_quality=True)
    indices, labels = matcher(torch.zeros(0, 4), torch.ones(boxes, 4))
    assert indices.tolist() == [0] * boxes
    assert labels.tolist() == [first] * boxes


def test_without_boxes_nothing_is_matched():
    indices, labels = RPN_STYLE(overlapping(3, 0), torch.zeros(0, 4))
    assert len(indices) == len(labels) == 0


# Choosing


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [(50, 200, (25, 75)), (10, 200, (10, 90)), (50, 30, (25, 30)), (0, 200, (0, 100)), (7, 0, (7, 0))],
)
def test_positive_boxes_fill_their_part_and_negative_ones_the_rest(positive, negative, expected):
    labels = torch.tensor([1] * positive + [0] * negative + [-1] * 40)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    chosen = Sampler(100, 0.25)(labels, torch.Generator().manual_seed(1))
    assert tuple(map(len, chosen)) == expected
    for indices, label in zip(chosen, (1, 0), strict=True):
        assert (labels[indices] == label).all()
        assert len(indices.unique()) == len(indices)


def test_the_generator_decides_the_choice():
    labels = torch.tensor([1, 0] * 200)

    def choose(seed: int) -> list[int]:
        return torch.cat(Sampler(50, 0.5)(labels, torch.Generator().manual_seed(seed))).tolist()

    assert choose(3) == choose(3)
    assert choose(3) != choose(4)
    torch.manual_seed(5)
    first = torch.cat(Sampler(50, 0.5)(labels))
    torch.manual_seed(5)
    assert torch.equal(first, torch.cat(Sampler(50, 0.5)(labels)))


def test_every_box_is_chosen_about_as_often():
    """A thousand draws of 10 out of 40: each box 250 times, with a deviation of 14."""
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(40)
    for _ in range(1000):
        counts[Sampler(10, 0.0)(torch.zeros(40), generator)[1]] += 1
    assert counts.sum() == 10_000
    assert (counts - 250).abs().max() < 5 * np.sqrt(1000 * 0.25 * 0.75)


# Proposals to learn from


def targets(count: int) -> Targets:
    return Targets(random_boxes(count, 7), torch.arange(count) % 4)


def test_proposals_are_labelled_with_the_targets_they_overlap_enough():
    real = targets(5)
    given = torch.cat((real.boxes + 0.5, random_boxes(40, 3)))
    samples = replace(SAMPLING, append_targets=False)(Proposals(given, torch.zeros(45), SIZE), real)
    indices, labels = naive.match(real.boxes.numpy(), given.numpy(), (0.5,), (0, 1), False)
    where = {tuple(box): row for row, box in enumerate(given.tolist())}
    rows = [where[tuple(box)] for box in samples.boxes.tolist()]
    assert sorted(rows) == list(range(45))
    foreground = [row in samples.foreground.tolist() for row in range(45)]
    assert foreground == [labels[row] == 1 for row in rows]
    assert samples.matched.tolist() == [indices[rows[row]] for row in samples.foreground.tolist()]
    assert torch.equal(samples.target_boxes, real.boxes[samples.matched])
    assert torch.equal(samples.target_classes, real.classes[samples.matched])
    assert len(samples.foreground) >= 5
    assert samples.image_size == SIZE


def test_the_targets_own_boxes_are_among_the_proposals():
    real = targets(3)
    empty = Proposals(torch.zeros(0, 4).double(), torch.zeros(0), SIZE)
    samples = SAMPLING(empty, real)
    assert sorted(samples.boxes.tolist()) == sorted(real.boxes.tolist())
    assert sorted(samples.matched.tolist()) == [0, 1, 2]
    without = replace(SAMPLING, append_targets=False)(empty, real)
    assert len(without.boxes) == len(without.foreground) == 0


@pytest.mark.parametrize("first", [0, -1])
def test_a_picture_without_targets_is_all_background(first):
    sampling = replace(SAMPLING, matchers=(Matcher((0.5,), (first, 1)),))
    samples = sampling(Proposals(random_boxes(9), torch.zeros(9), SIZE), targets(0))
    assert len(samples.boxes) == 9
    assert samples.target_boxes.shape == (0, 4)
    assert len(samples.target_classes) == len(samples.matched) == len(samples.foreground) == 0


def test_a_small_sample_holds_what_the_sampler_allows():
    real = targets(5)
    near = real.boxes.repeat(20, 1) + 0.1
    sampling = ProposalSampling((ROI_STYLE,), Sampler(40, 0.25), append_targets=True)
    proposals = Proposals(torch.cat((near, random_boxes(200, 9))), torch.zeros(300), SIZE)
    samples = sampling(proposals, real, torch.Generator().manual_seed(0))
    assert len(samples.boxes) == 40
    assert len(samples.foreground) == 10
    again = sampling(proposals, real, torch.Generator().manual_seed(0))
    assert torch.equal(samples.boxes, again.boxes)


def test_boxes_of_targets_take_the_precision_of_the_proposals():
    real = targets(2)
    samples = SAMPLING(Proposals(random_boxes(4).float(), torch.zeros(4), SIZE), real)
    assert samples.boxes.dtype == samples.target_boxes.dtype == torch.float32
    assert isinstance(samples, Samples)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_stop_the_step(bad):
    require_finite("the boxes", torch.ones(3), torch.zeros(0))
    with pytest.raises(ZooError, match=r"the boxes hold NaN.*diverged.*SOLVER\.BASE_LR"):
        require_finite("the boxes", torch.ones(3), torch.tensor([1.0, bad]))
