from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import clip_boxes_to_image

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops.boxes import MAX_LOG_GROWTH, clip_boxes, decode_boxes, nonempty
from tests.models import naive

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def anchors(count: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 100
    return torch.cat((corners.amin(1), corners.amax(1) + 1), dim=1)


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("classes", [1, 3])
def test_decoding_equals_a_loop(rows, classes):
    generator = torch.Generator().manual_seed(1)
    deltas = 8 * torch.randn(rows, 4 * classes, generator=generator, dtype=torch.float64)
    start = anchors(rows)
    got = decode_boxes(deltas, start, WEIGHTS)
    assert got.shape == (rows, 4 * classes)
    for row in range(rows):
        for k in range(classes):
            part = slice(4 * k, 4 * k + 4)
            expected = naive.decode(deltas[row, part].numpy(), start[row].numpy(), WEIGHTS)
            assert np.allclose(got[row, part].numpy(), expected, rtol=0, atol=1e-9)


def test_no_deltas_give_the_anchors_back():
    start = anchors(5)
    assert torch.allclose(decode_boxes(torch.zeros(5, 4).double(), start, WEIGHTS), start, rtol=0, atol=1e-12)


def test_growth_is_limited():
    """exp() of an untrained delta would overflow; a side grows to 62.5 times itself at most."""
    deltas = torch.tensor([[0.0, 0.0, 1e6, 5 * MAX_LOG_GROWTH]])
    box = decode_boxes(deltas, torch.tensor([[0.0, 0.0, 16.0, 16.0]]), WEIGHTS)[0]
    assert torch.allclose(box[2:] - box[:2], torch.tensor([1000.0, 1000.0]))
    assert math.isclose(math.exp(MAX_LOG_GROWTH), 62.5)


def test_shrinking_is_not_limited():
    box = decode_boxes(torch.tensor([[0.0, 0.0, -1e6, 0.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]), WEIGHTS)
    assert box.tolist() == [[8.0, 0.0, 8.0, 16.0]]


def test_shrinking_is_limited_as_growth_is_where_asked():
    start = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = decode_boxes(torch.tensor([[0.0, 0.0, -1e6, 1e6]]), start, WEIGHTS, clamp_shrink=True)[0]
    assert torch.allclose(box[2:] - box[:2], torch.tensor([16.0 * 16 / 1000, 1000.0]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_boxes_are_at_least_float32(given, expected):
    got = decode_boxes(torch.zeros(2, 4, dtype=given), torch.ones(2, 4, dtype=given), WEIGHTS)
    assert got.dtype == expected


def test_rows_must_be_as_many():
    with pytest.raises(ShapeError, match="3 rows of deltas for 2 anchors"):
        decode_boxes(torch.zeros(3, 4), torch.zeros(2, 4), WEIGHTS)


def test_arguments_that_are_not_contiguous():
    deltas, start = torch.randn(4, 6).double().t()[:, :4], anchors(6)
    got = decode_boxes(deltas, start, WEIGHTS)
    assert torch.equal(got, decode_boxes(deltas.contiguous(), start, WEIGHTS))


def test_gradients_are_right():
    deltas = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: decode_boxes(d, anchors(3), WEIGHTS), deltas)


def test_a_box_is_empty_when_a_side_is_not_longer_than_the_limit():
    boxes = torch.tensor([[0.0, 0, 2, 3], [0, 0, 0, 3], [0, 0, 3, 0], [5, 5, 4, 9], [0, 0, float("nan"), 3]])
    assert nonempty(boxes).tolist() == [True, False, False, False, False]
    assert nonempty(boxes, 2.0).tolist() == [False] * 5
    assert nonempty(boxes[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(7, 4), (0, 4), (5, 3, 4)])
def test_boxes_are_clipped_as_in_torchvision_to_numbers_and_to_tensors(shape):
    boxes = 80 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = clip_boxes_to_image(boxes, (50, 70))
    assert torch.equal(clip_boxes(boxes, (50, 70)), expected)
    assert torch.equal(clip_boxes(boxes, (torch.tensor(50), torch.tensor(70))), expected)


def test_what_is_not_a_number_stays_so_when_clipped():
    boxes = torch.tensor([[float("nan"), -3.0, float("inf"), 9.0]])
    assert clip_boxes(boxes, (5, 7)).nan_to_num(-1.0).tolist() == [[-1.0, 0.0, 7.0, 5.0]]
