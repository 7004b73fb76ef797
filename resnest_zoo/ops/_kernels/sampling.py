"""Deformable convolution and ROIAlign by the kernels.

Legend: N images, C channels, H and W, G groups, D deformable groups, k kernel size, R regions, S pooled side.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.ops._kernels.library import kernels, pixels_of, refuse_tensors
from resnest_zoo.ops._kernels.panels import pack_panels
from resnest_zoo.ops._kernels.threads import WORKSPACE, share

_NUMBERS_AT_ONCE = 150_000  # of a block of columns: 0.6 MB, which stays in the second cache
_FEWEST_PIXELS = 14
_REGIONS_AT_ONCE = 8


@dataclass(frozen=True)
class PackedDeform:
    """Weights (C', C / G, k, k) of a deformable convolution as the kernel reads them.

    Attributes:
        panels: (G, panels, k * k * C / G, 16).
        shape: of the weights.
        groups: G.
    """

    panels: Tensor = field(repr=False)
    shape: tuple[int, int, int, int]
    groups: int


def pack_deform_conv2d(weight: Tensor, groups: int) -> PackedDeform:
    """Weights for `deform_conv2d`, for those who call it more than once."""
    by_group = weight.detach().unflatten(0, (groups, -1))  # (G, C' / G, C / G, k, k)
    matrices = by_group.permute(0, 3, 4, 2, 1).flatten(1, 3)  # (G, k * k * C / G, C' / G)
    out_c, in_c, k, _ = weight.shape
    return PackedDeform(pack_panels(matrices), (out_c, in_c, k, k), groups)


def refuse_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor | PackedDeform,
    bias: Tensor | None,
    relu: bool,
    stride: int,
    padding: int,
) -> str | None:
    """Why these arguments cannot be taken."""
    return refuse_tensors(x, offset, mask, weight if isinstance(weight, Tensor) else weight.panels, bias)


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor | PackedDeform,
    bias: Tensor | None,
    relu: bool,
    stride: int,
    padding: int,
) -> Tensor:
    """Sample at shifted places, which are finite, convolve, add, rectify.

    Args:
        x: (N, C, H, W).
        offset: (N, 2 * D * k * k, H', W'), (y, x) pairs in pixels.
        mask: (N, D * k * k, H', W'), or None.
        weight: (C', C / G, k, k), also packed.
        bias: (C',), or None.
        relu: rectify the result.
        stride: of both directions.
        padding: of both directions.

    Returns:
        (N, C', H', W') channels last.
    """
    package = kernels()
    library = package.library()
    pixels = pixels_of(x)
    if isinstance(weight, Tensor):
        weight = pack_deform_conv2d(weight, x.shape[1] // weight.shape[1])
    out_channels, _, k, _ = weight.shape
    images, _, out_h, out_w = offset.shape
    out = torch.empty((images, out_h, out_w, out_channels))
    if not out.numel():
        return out.permute(0, 3, 1, 2)
    bias = None if bias is None else bias.detach().contiguous()
    conv = package.Conv(
        x.shape[1],
        out_channels,
        weight.groups,
        weight.panels.data_ptr(),
        weight.panels.numel(),
        None if bias is None else bias.data_ptr(),
        relu,
    )
    shape = package.Deform(*pixels.shape[:3], out_h, out_w, k, stride, padding, 1)
    shape.deform_groups = offset.shape[1] // (2 * k * k)
    shape.offset_strides = _strides(offset)
    shape.mask_strides = _strides(offset if mask is None else mask)
    shape_, conv_ = ctypes.byref(shape), ctypes.byref(conv)
    block = max(_NUMBERS_AT_ONCE // (k * k * x.shape[1]) // _FEWEST_PIXELS, 1) * _FEWEST_PIXELS
    needed: int = library.deform_conv_work(shape_, conv_, block)
    given = (pixels.data_ptr(), pixels.numel(), *_memory(offset), *_memory(mask), shape_, conv_)

    def compute(first: int, last: int) -> None:
        with WORKSPACE.lend(needed) as work:
            library.deform_conv(*given, first, last, out.data_ptr(), out.numel(), work.data_ptr(), needed)

    share(images * out_h * out_w, 4 * block, compute)
    return out.permute(0, 3, 1, 2)


def _strides(x: Tensor) -> Any:
    return (ctypes.c_int64 * 4)(*x.stride())


def _memory(x: Tensor | None) -> tuple[int | None, int]:
    """Where it begins, and how many numbers there are from there on."""
    if x is None:
        return None, 0
    return x.data_ptr(), int(x.untyped_storage().nbytes()) // x.element_size() - int(x.storage_offset())


def refuse_roi_align(
    features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int
) -> str | None:
    """Why these arguments cannot be taken."""
    return refuse_tensors(features, rois)


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int) -> Tensor:
    """Pool regions (R, 5), finite, from (N, C, H, W): (R, C, S, S), channels last."""
    library = kernels().library()
    pixels, regions = pixels_of(features), rois.detach().contiguous()
    _, height, width, channels = pixels.shape
    pooled = torch.empty((len(regions), size, size, channels))
    if len(regions):
        needed: int = library.roi_align_work(height, width, channels, size)
        given = (pixels.data_ptr(), pixels.numel(), *pixels.shape, regions.data_ptr(), len(regions), size)

        def compute(first: int, last: int) -> None:
            with WORKSPACE.lend(needed) as work:
                out = (pooled.data_ptr(), pooled.numel(), work.data_ptr(), needed)
                library.roi_align(*given, scale, sampling_ratio, first, last, *out)

        share(len(regions), _REGIONS_AT_ONCE, compute)
    return pooled.permute(0, 3, 1, 2)
