from __future__ import annotations

import math

import pytest
import torch

from resnest_zoo.models.anchors import AnchorGenerator

RATIOS = (0.5, 1.0, 2.0)


def test_the_cell_anchors_are_the_references():
    """Size 32, ratios height / width, as detectron2's docstring of its generator gives them."""
    (anchors,) = AnchorGenerator(((32.0,),), (RATIOS,), (16,), 0.0)([torch.zeros(1, 1, 1, 1)])
    expected = [
        [-22.6274, -11.3137, 22.6274, 11.3137],
        [-16.0, -16.0, 16.0, 16.0],
        [-11.3137, -22.6274, 11.3137, 22.6274],
    ]
    assert torch.allclose(anchors, torch.tensor(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_anchors_stand_row_by_row_at_every_cell(offset):
    sizes, strides = ((8.0, 10.0), (20.0, 30.0)), (4, 8)
    levels = [torch.zeros(2, 7, 3, 5, dtype=torch.float64), torch.zeros(2, 7, 2, 1, dtype=torch.float64)]
    got = AnchorGenerator(sizes, (RATIOS,), strides, offset)(levels)
    for anchors, level, stride, level_sizes in zip(got, levels, strides, sizes, strict=True):
        expected = []
        for row in range(level.shape[2]):
            for col in range(level.shape[3]):
                for size in level_sizes:
                    for ratio in RATIOS:
                        width = size / math.sqrt(ratio)
                        height = size * math.sqrt(ratio)
                        x, y = (col + offset) * stride, (row + offset) * stride
                        expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        # Cell anchors are rounded to float32, as in the reference.
        assert torch.allclose(anchors, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-5)


def test_every_level_has_as_many_anchors_at_a_cell():
    generator = AnchorGenerator(((32.0,), (64.0,)), (RATIOS,), (4, 8), 0.0)
    assert generator.num_anchors == 3
    assert [len(a) for a in generator([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 2)])] == [18, 6]


@pytest.mark.parametrize(
    ("features", "expected"), [(torch.float16, torch.float32), (torch.float64, torch.float64)]
)
def test_anchors_are_at_least_float32(features, expected):
    """Half precision cannot tell pixel 2049 from 2050."""
    (anchors,) = AnchorGenerator(((32.0,),), (RATIOS,), (16,), 0.0)([torch.zeros(1, 1, 2, 2, dtype=features)])
    assert anchors.dtype == expected


def test_one_list_of_sizes_for_each_level_or_one_for_all():
    with pytest.raises(ValueError, match="zip"):
        AnchorGenerator(((32.0,), (64.0,)), (RATIOS,), (4, 8, 16), 0.0)
