from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops.resize import resize_image, shortest_edge_size
from tests.models.tiny import picture


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((427, 640), (800, 1199)),
        ((800, 1333), (800, 1333)),
        ((800, 800), (800, 800)),
        ((300, 1200), (333, 1333)),
        ((1200, 300), (1333, 333)),
        ((2000, 3000), (800, 1200)),
        ((1, 1), (800, 800)),
        ((1, 2), (667, 1333)),
        ((1, 5000), (1, 1333)),
        ((5000, 1), (1333, 1)),
        ((3, 10000), (1, 1333)),
    ],
)
def test_the_size_rule(size, expected):
    """800, unless the longer side passes 1333; halves round up; at least one pixel is left."""
    assert shortest_edge_size(size, 800, 1333) == expected


@pytest.mark.parametrize(("size", "min_size"), [((7, 9), 0), ((5000, 3), 0)])
def test_a_size_of_zero_leaves_the_picture_alone(size, min_size):
    assert shortest_edge_size(size, min_size, 1333) == size


@pytest.mark.parametrize("before", [(37, 53), (200, 90), (1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("after", [(64, 80), (19, 31), (1, 7), (3, 1)])
def test_resizing_equals_pil(before, after):
    image = picture(*before)
    pil = Image.fromarray(image.permute(1, 2, 0).numpy())
    expected = np.asarray(pil.resize((after[1], after[0]), Image.Resampling.BILINEAR))
    got = resize_image(image, after)
    assert got.dtype == torch.uint8
    assert got.shape == (3, *after)
    assert got.is_contiguous()
    assert np.array_equal(got.permute(1, 2, 0).numpy(), expected)


def test_the_right_size_is_returned_as_it_is():
    image = picture(5, 9)
    assert resize_image(image, (5, 9)) is image


def test_pictures_that_are_not_contiguous():
    image = picture(30, 20)
    turned = image.permute(0, 2, 1)
    assert torch.equal(resize_image(turned, (7, 8)), resize_image(turned.contiguous(), (7, 8)))


def test_the_result_is_free_to_be_written_to():
    image = picture(30, 20)
    before = image.clone()
    resize_image(image, (7, 8)).zero_()
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    "image",
    [torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8)],
)
def test_only_uint8_pictures_of_three_channels(image):
    with pytest.raises(ShapeError, match=r"expected \(3, H, W\) uint8, got"):
        resize_image(image, (2, 2))
