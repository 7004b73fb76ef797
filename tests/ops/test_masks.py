from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops import masks
from resnest_zoo.ops.masks import paste_masks
from tests.models import naive

SIZE = (23, 31)


def naive_values(mask: Tensor, box: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The bilinear value at the centre of every pixel of the picture."""
    side = len(mask)
    x0, y0, x1, y1 = box.tolist()
    values = np.zeros(size)
    for row in range(size[0]):
        for col in range(size[1]):
            y = (row + 0.5 - y0) / (y1 - y0) * side - 0.5
            x = (col + 0.5 - x0) / (x1 - x0) * side - 0.5
            values[row, col] = naive.bilinear(mask.numpy(), y, x)
    return values


BOXES = {
    "inside": [3.2, 4.7, 17.9, 15.1],
    "whole pixels": [4.0, 5.0, 12.0, 19.0],
    "the picture": [0.0, 0.0, 31.0, 23.0],
    "tiny": [10.4, 11.4, 10.6, 11.7],
    "one pixel": [10.0, 11.0, 11.0, 12.0],
    "a hair wide": [10.0, 2.0, 10.001, 20.0],
    "over the left and top": [-8.3, -5.5, 9.0, 7.0],
    "over the right and bottom": [22.5, 14.0, 50.0, 40.0],
    "around the picture": [-20.0, -30.0, 60.0, 70.0],
    "left of the picture": [-30.0, 2.0, -9.0, 8.0],
    "right of the picture": [40.0, 2.0, 55.0, 8.0],
    "below the picture": [4.0, 40.0, 9.0, 55.0],
    "far above and right": [400.0, -90.0, 500.0, -50.0],
    "at the edge": [31.0, 23.0, 35.0, 29.0],
}


@pytest.mark.parametrize("side", [1, 5, 28])
@pytest.mark.parametrize("where", BOXES)
def test_pasting_equals_a_loop_over_pixels(where, side):
    mask = torch.rand(1, side, side, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
    if side == 1:
        mask += 0.4
    box = torch.tensor([BOXES[where]], dtype=torch.float64)
    got = paste_masks(mask, box, SIZE)[0].numpy()
    values = naive_values(mask[0], box[0], SIZE)
    assert got.shape == SIZE
    # A value within rounding of one half may fall to either side.
    clear = np.abs(values - 0.5) > 1e-9
    assert np.array_equal(got[clear], values[clear] >= 0.5)


def test_a_value_of_one_half_belongs_to_the_mask():
    assert paste_masks(torch.full((1, 2, 2), 0.5), torch.tensor([[0.0, 0, 4, 4]]), (4, 4))[0, 1:3, 1:3].all()


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_masks_pasted_together_equal_masks_pasted_alone(monkeypatch, chunk):
    """An accelerator pastes several at once, in the window that covers them all."""
    boxes = torch.tensor(list(BOXES.values()), dtype=torch.float64)
    probs = torch.rand(len(boxes), 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone = paste_masks(probs, boxes, SIZE)
    assert alone.any()
    monkeypatch.setattr(masks, "_masks_at_once", lambda *_: chunk)
    assert torch.equal(paste_masks(probs, boxes, SIZE), alone)


def test_no_masks():
    got = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE)
    assert got.shape == (0, *SIZE)
    assert got.dtype == torch.bool


def test_a_picture_of_one_pixel():
    assert paste_masks(torch.ones(1, 28, 28), torch.tensor([[0.0, 0, 1, 1]]), (1, 1)).tolist() == [[[True]]]


def test_a_box_without_area_holds_no_pixel():
    assert not paste_masks(torch.ones(1, 28, 28), torch.tensor([[3.0, 3, 3, 9]]), SIZE).any()


@pytest.mark.parametrize(
    ("mask_shape", "box_shape", "complaint"),
    [
        ((2, 28), (2, 4), r"expected masks \(N, M, M\), got \(2, 28\)"),
        ((2, 28, 14), (2, 4), r"got \(2, 28, 14\)"),
        ((2, 28, 28), (3, 4), r"2 masks but boxes \(3, 4\)"),
        ((2, 28, 28), (2, 5), r"2 masks but boxes \(2, 5\)"),
    ],
)
def test_wrong_shapes_are_named(mask_shape, box_shape, complaint):
    with pytest.raises(ShapeError, match=complaint):
        paste_masks(torch.zeros(mask_shape), torch.zeros(box_shape), SIZE)
