"""torchvision's operators with and without its package: the same results, and what is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from resnest_zoo.ops import operators

ROOT = Path(__file__).parents[2]


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.fixture(params=["alone", "by torchvision"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert operators._load()
    if request.param != "alone":
        monkeypatch.setattr(operators, "_load", lambda: False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("masked", [True, False])
def test_a_deformable_convolution_and_its_gradients_are_torchvisions(masked: bool) -> None:
    x, offset, weight = noise(2, 4, 7, 9), noise(2, 36, 4, 5), noise(6, 2, 3, 3)
    mask = noise(2, 18, 4, 5).sigmoid() if masked else None
    found = []
    for run in (operators.deform_conv2d, torchvision.ops.deform_conv2d):
        leaves = [t.clone().requires_grad_() for t in (x, offset, weight)]
        out = run(*leaves, None, 2, 1, mask=mask)
        out.square().sum().backward()
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    assert all(map(torch.equal, *found))


@pytest.mark.usefixtures("way")
def test_a_pooling_and_its_gradient_are_torchvisions() -> None:
    x, rois = noise(2, 3, 8, 9), torch.tensor([[0, 1, 1, 20, 17], [1, 0, 0, 5, 30]], dtype=torch.float64)
    found = []
    for aligned in ({}, {"aligned": True}):
        leaf = x.clone().requires_grad_()
        run = torchvision.ops.roi_align if aligned else operators.roi_align
        out = run(leaf, rois, 3, 0.25, 0, **aligned)
        out.square().sum().backward()
        found.append([out.detach(), leaf.grad])
    assert all(map(torch.equal, *found))


@pytest.mark.usefixtures("way")
def test_suppression_is_torchvisions() -> None:
    corners = noise(50, 2).abs() * 20
    boxes, scores = torch.cat([corners, corners + 15], dim=1), noise(50)
    kept = operators.nms(boxes, scores, 0.3)
    assert 1 < len(kept) < 50
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.3))


def test_other_devices_go_through_torchvision() -> None:
    pooled = operators.roi_align(
        torch.zeros(1, 2, 8, 8, device="meta"), torch.zeros(3, 5, device="meta"), 7, 1, 0
    )
    assert pooled.shape == (3, 2, 7, 7)


def test_predicting_loads_neither_torchvisions_models_nor_the_compiler() -> None:
    program = (
        "import sys, numpy, resnest_zoo\n"
        "predict = resnest_zoo.Predictor('mask_rcnn_resnest14_dcn_shapes')\n"
        "predict(numpy.zeros((60, 80, 3), numpy.uint8))\n"
        "print([name for name in ('torchvision', 'torch._dynamo', 'sympy') if name in sys.modules])\n"
        "import torchvision\n"
        "print(torchvision.ops.nms.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "nms"]
