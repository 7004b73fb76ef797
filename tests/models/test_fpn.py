from __future__ import annotations

import pytest
import torch

from tests.models.tiny import RESNEST, tiny_model


@torch.no_grad()
@pytest.mark.parametrize("overrides", [(), RESNEST])
def test_the_pyramid_is_what_its_parts_make(overrides):
    fpn = tiny_model(*overrides).backbone
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    bottom_up = fpn.bottom_up(x)
    got = fpn(x)
    above = None
    for level in (5, 4, 3, 2):
        merged = fpn.get_submodule(f"fpn_lateral{level}")(bottom_up[f"res{level}"])
        if above is not None:
            merged = merged + above.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = fpn.get_submodule(f"fpn_output{level}")(merged)
        assert torch.allclose(got[f"p{level}"], expected, rtol=1e-12)
        above = merged
    assert torch.equal(got["p6"], got["p5"][:, :, ::2, ::2])
    assert list(got) == ["p2", "p3", "p4", "p5", "p6"]


def test_strides_and_shapes_agree():
    fpn = tiny_model().backbone
    assert fpn.out_strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    assert fpn.size_divisibility == 32
    for name, feature in fpn(torch.zeros(1, 3, 64, 128, dtype=torch.float64)).items():
        assert feature.shape == (1, 8, 64 // fpn.out_strides[name], 128 // fpn.out_strides[name])
