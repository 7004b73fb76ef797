"""Convolution by oneDNN with filters in its own order and with what follows in the same pass.

PyTorch registers these operators for its compiler; they are not public. `available` looks for them, compares
their result with that of the public operator, and says no where anything is amiss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers of a 1x1 filter from which a matrix product is faster. With torch 2.14.1, oneDNN was measured to
# fall from 105 GFLOP/s to 68 at this size and to 30 at twice the size, while the product keeps 75 to 100.
_LARGE = 2**19
_NAMES = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")


@dataclass(frozen=True)
class Packed:
    """Filters of one layer in oneDNN's order, which holds no numbers that PyTorch could read."""

    weight: Tensor
    bias: Tensor | None
    groups: int
    stride: int
    padding: int
    out_channels: int
    kernel_size: int


def available() -> str | None:
    """Why the operators cannot be used here; None if they can."""
    if not torch.backends.mkldnn.is_available():
        return "this PyTorch is built without oneDNN"
    missing = [name for name in _NAMES if not hasattr(torch.ops.mkldnn, name)]
    if missing:
        return f"PyTorch {torch.__version__} has no operator mkldnn::{missing[0]}"
    try:
        return None if _is_right() else "the operators give another result than the public convolution"
    except (RuntimeError, TypeError) as error:  # their arguments have changed
        return f"the operators refuse their arguments: {str(error).splitlines()[0]}"


@torch.no_grad()
def _is_right() -> bool:
    """Whether a small case comes out as by the public operator."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, other = (
        torch.randn(shape, generator=generator)
        for shape in ((1, 16, 5, 7), (32, 8, 3, 3), (32,), (1, 32, 5, 7))
    )
    x, other = (t.contiguous(memory_format=torch.channels_last) for t in (x, other))
    expected = F.conv2d(x, weight, bias, 1, 1, 1, 2)
    packed = pack_conv2d(weight, bias, 2, 1, 1)
    alone, added = conv2d(x, packed, True, None), conv2d(x, packed, True, other.clone())
    return torch.allclose(alone, expected.relu(), atol=1e-4) and torch.allclose(
        added, (expected + other).relu(), atol=1e-4
    )


def refuse_conv2d(weight: Tensor, groups: int, stride: int, padding: int) -> str | None:
    """Why filters cannot be taken."""
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        return f"it is for float32 on the CPU, not for {weight.dtype} on {weight.device}"
    return None


def slow_conv2d(weight: Tensor, groups: int, stride: int, padding: int) -> str | None:
    """Why the direct way is faster."""
    if tuple(weight.shape[2:]) == (1, 1) and groups == 1 and padding == 0 and weight.numel() >= _LARGE:
        return "large filters of 1x1 are faster as a matrix product"
    return None


def pack_conv2d(weight: Tensor, bias: Tensor | None, groups: int, stride: int, padding: int) -> Packed:
    """Filters (C', C / G, k, k) for `conv2d`."""
    sides = [padding, padding], [stride, stride], [1, 1]
    ordered = torch.ops.mkldnn._reorder_convolution_weight(
        weight.contiguous(memory_format=torch.channels_last), *sides, groups, None
    )
    return Packed(ordered, bias, groups, stride, padding, len(weight), weight.shape[2])


def conv2d(x: Tensor, packed: Packed, relu: bool, add: Tensor | None) -> Tensor:
    """Convolve (N, C, H, W), add `add`, which is overwritten, rectify: (N, C', H', W') channels last."""
    p = packed
    x = x.contiguous(memory_format=torch.channels_last)
    if x.numel() == 0:
        return _empty(x, p) if add is None else add
    sides: tuple[Any, ...] = ([p.padding] * 2, [p.stride] * 2, [1, 1], p.groups)
    if add is None:
        after = "relu" if relu else "none"
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, p.weight, p.bias, *sides, after, [], "")
        return out
    add_after = "relu" if relu else None
    summed: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        add, x, p.weight, p.bias, *sides, "add", 1.0, add_after, [], ""
    )
    return summed


def _empty(x: Tensor, p: Packed) -> Tensor:
    sides = [(side + 2 * p.padding - p.kernel_size) // p.stride + 1 for side in x.shape[2:]]
    return torch.empty((len(x), p.out_channels, *sides), memory_format=torch.channels_last)
