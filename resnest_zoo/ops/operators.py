"""torchvision's operators, without the second that importing torchvision takes.

Its package imports all its models and with them torch's compiler and sympy, as long as torch itself takes.
Eager work on the CPU needs none of these, but the library of compiled operators alone. Wherever more is
needed (another device, gradients, or a graph) torchvision's own functions are called.

Legend: N images, C channels, H and W, R boxes or regions, S pooled side, G deformable groups.
"""

from __future__ import annotations

from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor


def in_graph() -> bool:
    """Whether operations are recorded for later, so that values must not decide what comes next."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`torchvision.ops.nms`: of boxes (R, 4) the indices of those that stay, by falling score (R,)."""
    keep: Tensor = (
        torch.ops.torchvision.nms(boxes, scores, iou_threshold)
        if _alone(boxes)
        else _their().nms(boxes, scores, iou_threshold)
    )
    return keep


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int) -> Tensor:
    """`torchvision.ops.roi_align`, aligned: (N, C, H, W) and regions (R, 5) to (R, C, S, S)."""
    pooled: Tensor = (
        torch.ops.torchvision.roi_align(features, rois, scale, size, size, sampling_ratio, True)
        if _alone(features)
        else _their().roi_align(features, rois, (size, size), scale, sampling_ratio, aligned=True)
    )
    return pooled


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    """`torchvision.ops.deform_conv2d`: (N, C, H, W) to (N, C', H', W')."""
    if not _alone(x):
        theirs: Tensor = _their().deform_conv2d(x, offset, weight, bias, stride, padding, mask=mask)
        return theirs
    convolved: Tensor = torch.ops.torchvision.deform_conv2d(
        x,
        weight,
        offset,
        x.new_zeros((len(x), 1)) if mask is None else mask,
        x.new_zeros(len(weight)) if bias is None else bias,
        *(stride, stride, padding, padding, 1, 1),
        x.shape[1] // weight.shape[1],
        offset.shape[1] // (2 * weight.shape[2] * weight.shape[3]),
        mask is not None,
    )
    return convolved


def _their() -> ModuleType:
    """torchvision's own functions."""
    from torchvision import ops  # an import that torch.compile can follow, which `import_module` is not

    return cast(ModuleType, ops)


def _alone(x: Tensor) -> bool:
    """Whether the compiled operators do without their package here; it holds their gradients."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not in_graph() and _load()


@cache
def _load() -> bool:
    """Load the compiled operators; False where they are not found beside the package."""
    spec = find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("_C*")):
            if path.name.endswith(tuple(EXTENSION_SUFFIXES)):
                try:
                    torch.ops.load_library(path)
                except OSError:
                    return False  # torchvision's own import says what is wrong with it
    return hasattr(torch.ops.torchvision, "nms")
