"""The guard before torchvision's deformable kernel, tried with a stand-in, and dtypes that kernels lack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from resnest_zoo.errors import NonFiniteError
from resnest_zoo.ops import sampling
from resnest_zoo.ops.sampling import deform_conv2d, roi_align

# Of the real kernel it is known that it crashes on what the guard is for: it must never see such input.


class StandIn:
    """In the kernel's place; keeps what arrives."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor | None]] = []

    def __call__(self, x: Tensor, offset: Tensor, *_: Any, mask: Tensor | None = None) -> Tensor:
        self.calls.append((offset, mask))
        return x * 1.0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(sampling.operators, "deform_conv2d", stand_in)
    return stand_in


def parts(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Picture, offset, weight, mask."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 4, 5, 7), (1, 18, 5, 7), (4, 4, 3, 3), (1, 9, 5, 7))
    x, offset, weight, mask = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return x, offset, weight, mask.sigmoid()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["offset", "mask"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("learning", [False, True])
def test_what_is_not_finite_never_reaches_the_kernel(
    kernel: StandIn, bad: float, where: str, dtype: torch.dtype, learning: bool
) -> None:
    x, offset, weight, mask = parts(dtype)
    (offset if where == "offset" else mask)[0, 3, 2, 1] = bad
    with pytest.raises(
        NonFiniteError, match=r"res3\.0\.conv2: its offsets or masks hold NaN .* load a sound"
    ):
        deform_conv2d(x.requires_grad_(learning), offset, weight, mask, padding=1, name="res3.0.conv2")
    assert kernel.calls == []


def test_values_of_both_signs_that_cancel_are_found_as_well(kernel: StandIn) -> None:
    x, offset, weight, _ = parts()
    offset[0, 0, 0, :2] = torch.tensor([float("inf"), -float("inf")])
    with pytest.raises(NonFiniteError):
        deform_conv2d(x, offset, weight, padding=1)
    assert kernel.calls == []


def test_16_bits_say_that_the_range_may_be_too_small(kernel: StandIn) -> None:
    x, offset, weight, mask = parts(torch.float16)
    with pytest.raises(NonFiniteError, match=r"the range of torch\.float16: compute in float32$"):
        deform_conv2d(x, offset / 0, weight, mask, padding=1)


def test_offsets_that_overflow_only_on_the_way_to_the_kernels_type_are_found(kernel: StandIn) -> None:
    x, offset, weight, _ = parts(torch.float16)
    with pytest.raises(NonFiniteError):
        deform_conv2d(x, offset.float() + 1e5, weight, padding=1)
    assert kernel.calls == []


def test_large_finite_offsets_pass_though_their_sum_overflows(kernel: StandIn) -> None:
    x, offset, weight, _ = parts()
    deform_conv2d(x, torch.full_like(offset, 3e38), weight, padding=1)
    assert len(kernel.calls) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")  # before torch 2.14
def test_in_a_traced_graph_the_kernel_gets_zeros_and_the_result_is_nan(kernel: StandIn) -> None:
    x, offset, weight, mask = parts()
    traced = torch.jit.trace(
        lambda *given: deform_conv2d(*given), (x, offset, weight, mask), check_trace=False
    )
    assert torch.equal(traced(x, offset, weight, mask), x)
    bad = offset.clone()
    bad[0, 3, 2, 1] = float("nan")
    kernel.calls.clear()
    assert traced(x, bad, weight, mask).isnan().all()


def test_an_exported_graph_holds_the_guard(kernel: StandIn) -> None:
    class Layer(torch.nn.Module):
        def forward(self, *given: Tensor) -> Tensor:
            return deform_conv2d(*given)

    x, offset, weight, mask = parts()
    graph = torch.export.export(Layer(), (x, offset, weight, mask)).module()
    assert torch.equal(graph(x, offset, weight, mask), x)
    mask[0, 3, 2, 1] = float("inf")
    assert graph(x, offset, weight, mask).isnan().all()


def test_without_a_kernel_for_bfloat16_deformable_convolution_is_computed_in_float32() -> None:
    x, offset, weight, mask = parts(torch.bfloat16)
    given = [part.requires_grad_() for part in (x, offset, weight, mask)]
    got = deform_conv2d(*given, padding=1)
    expected = deform_conv2d(*(part.detach().float() for part in given), padding=1)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected.bfloat16())
    got.float().sum().backward()
    assert all(part.grad is not None and part.grad.dtype == torch.bfloat16 for part in given)


def test_without_a_kernel_for_bfloat16_roi_align_is_computed_in_float32_from_exact_boxes() -> None:
    features = parts(torch.bfloat16)[0].requires_grad_()
    rois = torch.tensor([[0.0, 257.3, 129.7, 301.1, 263.9]])  # bfloat16 has steps of 1 and 2 there
    got = roi_align(features, rois, 2, 1 / 64, 0)
    expected = roi_align(features.detach().float(), rois, 2, 1 / 64, 0)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected.bfloat16())
    got.sum().backward()
    assert features.grad is not None
    assert features.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_other_dtypes_are_the_kernels_own(kernel: StandIn, dtype: torch.dtype) -> None:
    x, offset, weight, mask = parts(dtype)
    assert deform_conv2d(x, offset, weight, mask, padding=1).dtype == dtype
    assert [part.dtype for part in kernel.calls[0] if part is not None] == [dtype, dtype]
