"""Operators that sample between pixels: deformable convolution and ROIAlign, by torchvision's kernels unless
another implementation is asked for.

What the kernels cannot take never reaches them: a dtype that they lack is computed in float32, and shifts
that are not finite, for which the deformable kernel reads memory that is not its own, are an error.

Legend: N images, C channels, H and W, R regions, S pooled side, G deformable groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.errors import NonFiniteError
from resnest_zoo.ops import choice, operators
from resnest_zoo.ops.operators import in_graph


@dataclass(frozen=True)
class DeformFilters:
    """Weights of a deformable convolution, in the order of one implementation, too.

    Attributes:
        weight: (C_out, C_in / groups, k, k).
        module: the implementation.
        packed: what that has made of them.
    """

    weight: Tensor
    module: ModuleType | None = None
    packed: Any = None

    def of(self, module: ModuleType) -> Any:
        """The weights as an implementation likes them best."""
        return self.packed if module is self.module else self.weight


def prepare_deform_filters(weight: Tensor, groups: int) -> DeformFilters:
    """Bring weights (C_out, C_in / groups, k, k) into the order of the implementation that will take them.

    Raises:
        ZooError: the implementation that `RESNEST_ZOO_KERNELS` asks for cannot take them.
    """
    weight = weight.contiguous(memory_format=torch.channels_last)
    module = choice.choose("deform_conv2d", weight, weight, None, weight, None, False, 1, 1)
    pack = getattr(module, "pack_deform_conv2d", None)
    return DeformFilters(weight, module, pack(weight, groups)) if pack else DeformFilters(weight)


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor | DeformFilters,
    mask: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    name: str = "a deformable convolution",
    bias: Tensor | None = None,
    relu: bool = False,
    implementation: str | None = "exact",
) -> Tensor:
    """Sample at shifted places and convolve (DCNv1; with a mask DCNv2).

    The check of `offset` and `mask` is one sum of each. On an accelerator it waits for the result. In a
    graph that is compiled or traced nothing can be raised: there the operator gets zeros for what is not
    finite, and the whole result is NaN.

    Args:
        x: (N, C_in, H, W).
        offset: (N, 2 * G * k * k, H', W'), (y, x) pairs in input pixels.
        weight: (C_out, C_in / groups, k, k), or what `prepare_deform_filters` makes of it. Computation is in
            its dtype where the kernel has that, else in float32.
        mask: (N, G * k * k, H', W'), a factor for each sample; None is all ones.
        stride: of both directions.
        padding: of both directions.
        name: of the layer, for the error.
        bias: (C_out,), added.
        relu: rectify the result, in place where that is possible.
        implementation: one of `choice.TABLE`; None takes the fastest that can. Others than "exact" have no
            gradients and are no part of graphs.

    Returns:
        (N, C_out, H', W') in the dtype of `x`.

    Raises:
        NonFiniteError: an offset or a mask holds NaN or infinite values.
        ZooError: the implementation asked for cannot take the arguments.

    Source: torchvision, `ops.deform_conv2d`.
    """
    filters = weight if isinstance(weight, DeformFilters) else DeformFilters(weight)
    if implementation != "exact":
        if not _is_finite(offset, mask):
            raise NonFiniteError(_advice(name, x.dtype))
        rest = (bias, relu, stride, padding)
        module = choice.choose(
            "deform_conv2d", x, offset, mask, filters.weight, *rest, implementation=implementation
        )
        fast: Tensor = module.deform_conv2d(x, offset, mask, filters.of(module), *rest)
        return fast
    weight = filters.weight
    sampled = _deform_exactly(x, offset, weight, mask, stride, padding, name)
    sampled = sampled if bias is None else sampled + bias[:, None, None]
    return sampled.relu() if relu else sampled


def _deform_exactly(
    x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, stride: int, padding: int, name: str
) -> Tensor:
    dtype = _kernel_dtype(weight)
    x_, offset_, weight_ = x.to(dtype), offset.to(dtype), weight.to(dtype)
    mask_ = None if mask is None else mask.to(dtype)
    if not in_graph():
        if not _is_finite(offset_, mask_):
            raise NonFiniteError(_advice(name, x.dtype))
        sampled: Tensor = operators.deform_conv2d(x_, offset_, weight_, None, stride, padding, mask=mask_)
        return sampled.to(x.dtype)
    finite = offset_.isfinite().all() if mask_ is None else offset_.isfinite().all() & mask_.isfinite().all()
    mask_ = None if mask_ is None else mask_.nan_to_num(0.0, 0.0, 0.0)
    sampled = operators.deform_conv2d(
        x_, offset_.nan_to_num(0.0, 0.0, 0.0), weight_, None, stride, padding, mask=mask_
    )
    return sampled.masked_fill(~finite, math.nan).to(x.dtype)


def roi_align(
    features: Tensor,
    rois: Tensor,
    size: int,
    scale: float,
    sampling_ratio: int,
    *,
    implementation: str | None = "exact",
) -> Tensor:
    """Pool regions by bilinear interpolation, with half-pixel-correct corners.

    Args:
        features: (N, C, H, W).
        rois: (R, 5), index of the image and corners xyxy, finite, in pixels of the model's input.
        size: S.
        scale: pixels of `features` for one of the input.
        sampling_ratio: samples in each direction of a cell; 0 adapts them to the region.
        implementation: one of `choice.TABLE`; None takes the fastest that can. Others than "exact" have no
            gradients and are no part of graphs.

    Returns:
        (R, C, S, S) in the dtype of `features`. Where no kernel has that, computation is in float32.

    Raises:
        ZooError: the implementation asked for cannot take the arguments.

    Source: torchvision, `ops.roi_align` with `aligned=True`.
    """
    if implementation != "exact":
        args = (features, rois, size, scale, sampling_ratio)
        fast: Tensor = choice.choose("roi_align", *args, implementation=implementation).roi_align(*args)
        return fast
    dtype = _kernel_dtype(features)
    pooled: Tensor = operators.roi_align(features.to(dtype), rois.to(dtype), size, scale, sampling_ratio)
    return pooled.to(features.dtype)


def _kernel_dtype(like: Tensor) -> torch.dtype:
    """The dtype of a tensor where torchvision's kernels have it, else float32: they lack bfloat16."""
    return like.dtype if like.dtype in (torch.float16, torch.float32, torch.float64) else torch.float32


def _is_finite(*tensors: Tensor | None) -> bool:
    given = [tensor.detach() for tensor in tensors if tensor is not None]
    if given[0].is_meta:
        return True
    # A sum is finite only if all its terms are; a sum of finite terms that overflows needs the second look.
    total = torch.stack(
        [tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32)) for tensor in given]
    )
    return bool(total.sum().isfinite()) or all(bool(tensor.isfinite().all()) for tensor in given)


def _advice(name: str, dtype: torch.dtype) -> str:
    half = f", or numbers passed the range of {dtype}: compute in float32" if dtype.itemsize < 4 else ""
    return (
        f"{name}: its offsets or masks hold NaN or infinite values, so that nothing can be sampled: the "
        f"weights are broken, load a sound checkpoint; or training has diverged, lower SOLVER.BASE_LR{half}"
    )
