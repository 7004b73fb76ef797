"""Convolution with filters that are prepared once, by the fastest implementation for their shape.

For inference alone: nothing here has gradients or is part of graphs.

Legend: N images, C and C' channels, G groups, k kernel size, H and W, R small maps, S their side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from resnest_zoo.errors import ShapeError
from resnest_zoo.ops import choice


@dataclass(frozen=True)
class PreparedConv:
    """Filters in the order that their implementation wants.

    Attributes:
        module: the implementation.
        packed: what it made of the filters.
        bias: (C',), or None.
        is_winograd: the implementation is one of `conv3x3`, else of `conv2d`.
        in_channels: C.
    """

    module: ModuleType
    packed: Any
    bias: Tensor | None
    is_winograd: bool
    in_channels: int


def prepare_conv2d(
    weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> PreparedConv:
    """Choose an implementation for filters and bring them into its order.

    Args:
        weight: (C', C / G, k, k).
        bias: (C',), or None.
        stride: of both directions.
        padding: of both directions.
        groups: G.

    Raises:
        ZooError: the implementation that `RESNEST_ZOO_KERNELS` asks for cannot take the filters.
    """
    in_channels = weight.shape[1] * groups
    if tuple(weight.shape[2:]) == (3, 3) and stride == padding == 1:
        module = choice.choose("conv3x3", weight, groups)
        if module is not choice.load("exact"):
            return PreparedConv(module, module.pack_conv3x3(weight, groups), bias, True, in_channels)
    module = choice.choose("conv2d", weight, groups, stride, padding)
    packed = module.pack_conv2d(weight, bias, groups, stride, padding)
    return PreparedConv(module, packed, bias, False, in_channels)


def conv2d(x: Tensor, prepared: PreparedConv, *, relu: bool = False, add: Tensor | None = None) -> Tensor:
    """Convolve, add, rectify.

    Args:
        x: (N, C, H, W), channels last for speed.
        prepared: the filters.
        relu: rectify the result.
        add: (N, C', H', W'), added before that. It may be overwritten, and be the result.

    Returns:
        (N, C', H', W'), channels last.

    Raises:
        ShapeError: `x` has another number of channels than the filters.
    """
    _check_channels(x, prepared)
    out: Tensor
    if not prepared.is_winograd:
        out = prepared.module.conv2d(x, prepared.packed, relu, add)
        return out
    out = prepared.module.conv3x3(x, prepared.packed, prepared.bias, relu and add is None)
    if add is None:
        return out
    out += add
    return out.relu_() if relu else out


def conv3x3_stack(x: Tensor, layers: Sequence[PreparedConv]) -> Tensor:
    """Convolutions with stride 1, each followed by ReLU, on many small maps.

    Args:
        x: (R, C, S, S), channels last for speed.
        layers: their filters; at least one.

    Returns:
        (R, C', S, S), channels last.

    Raises:
        ShapeError: `x` has another number of channels than the first filters.
    """
    _check_channels(x, layers[0])
    module = layers[0].module
    together = getattr(module, "conv3x3_stack", None)
    if together and all(layer.module is module and layer.is_winograd for layer in layers):
        out: Tensor = together(x, [(layer.packed, layer.bias) for layer in layers])
        return out
    for layer in layers:
        x = conv2d(x, layer, relu=True)
    return x


def _check_channels(x: Tensor, prepared: PreparedConv) -> None:
    if x.dim() != 4 or x.shape[1] != prepared.in_channels:
        raise ShapeError(
            f"conv2d: expected (N, {prepared.in_channels}, H, W) for these filters, got {tuple(x.shape)}"
        )
