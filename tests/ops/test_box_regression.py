"""Deltas of targets, their loss, and overlaps, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops.boxes import box_regression_loss, decode_boxes, encode_boxes, pairwise_iou
from tests.models import naive

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count: int, seed: int) -> Tensor:
    corners = torch.rand(
        count, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).mul_(50)
    return torch.cat((corners.amin(1), corners.amax(1) + 1), dim=1)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_encoding_equals_a_loop_and_decoding_undoes_it(rows):
    boxes, anchors = random_boxes(rows, 0), random_boxes(rows, 1)
    deltas = encode_boxes(boxes, anchors, WEIGHTS)
    assert deltas.shape == (rows, 4)
    for row in range(rows):
        expected = naive.encode(boxes[row].numpy(), anchors[row].numpy(), WEIGHTS)
        assert np.allclose(deltas[row].numpy(), expected, rtol=0, atol=1e-12)
    assert torch.allclose(decode_boxes(deltas, anchors, WEIGHTS), boxes, rtol=0, atol=1e-12)


def test_boxes_and_anchors_must_be_as_many():
    with pytest.raises(ShapeError, match="3 boxes for 2 anchors"):
        encode_boxes(random_boxes(3, 0), random_boxes(2, 0), WEIGHTS)


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
def test_the_regression_loss_equals_a_loop(beta):
    boxes, anchors = random_boxes(9, 0), random_boxes(9, 1)
    deltas = 4 * torch.randn(9, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = sum(
        naive.smooth_l1(d.numpy(), naive.encode(b.numpy(), a.numpy(), WEIGHTS), beta)
        for d, b, a in zip(deltas, boxes, anchors, strict=True)
    )
    got = box_regression_loss(deltas, anchors, boxes, WEIGHTS, beta)
    assert float(got) == pytest.approx(expected, rel=1e-12)
    deltas.requires_grad_()
    assert torch.autograd.gradcheck(lambda d: box_regression_loss(d, anchors, boxes, WEIGHTS, beta), deltas)


def test_no_rows_lose_nothing_but_keep_the_gradient():
    deltas = torch.zeros(0, 4, requires_grad=True)
    loss = box_regression_loss(deltas, torch.zeros(0, 4), torch.zeros(0, 4), WEIGHTS, 0.0)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert deltas.grad is not None


def test_half_precision_is_compared_in_the_precision_of_the_boxes():
    deltas = torch.ones(1, 4, dtype=torch.float16)
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    assert box_regression_loss(deltas, box, box, WEIGHTS, 0.0).dtype == torch.float32


@pytest.mark.parametrize(("left", "right"), [(5, 7), (1, 1), (0, 3), (3, 0)])
def test_overlaps_equal_a_loop(left, right):
    boxes, others = random_boxes(left, 3), random_boxes(right, 4)
    got = pairwise_iou(boxes, others)
    expected = [[naive.iou(a.numpy(), b.numpy()) for b in others] for a in boxes]
    assert got.shape == (left, right)
    assert np.allclose(got.numpy(), np.array(expected).reshape(left, right), rtol=1e-14, atol=0)


def test_empty_boxes_overlap_nothing_not_even_themselves():
    boxes = torch.tensor([[1.0, 1.0, 1.0, 5.0], [0.0, 0.0, 2.0, 2.0]])
    assert pairwise_iou(boxes, boxes).tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert pairwise_iou(boxes[:1], boxes[:1]).tolist() == [[0.0]]


def test_boxes_of_two_precisions_are_compared_in_the_finer():
    assert pairwise_iou(random_boxes(2, 0).float(), random_boxes(3, 0)).dtype == torch.float64
