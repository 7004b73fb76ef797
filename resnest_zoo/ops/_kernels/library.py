"""The package `resnest-zoo-kernels`: the only door to it, and whether it is there and usable."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

# Releases whose functions have the arguments that are used here.
_KNOWN = "0.1."


@cache
def available() -> str | None:
    """None, or why the kernels cannot be used."""
    try:
        import resnest_zoo_kernels
    except ModuleNotFoundError:
        return "the package resnest-zoo-kernels is not installed"
    if not resnest_zoo_kernels.__version__.startswith(_KNOWN):
        return f"resnest-zoo-kernels {resnest_zoo_kernels.__version__} is none of {_KNOWN}*"
    try:
        resnest_zoo_kernels.library()
    except (OSError, resnest_zoo_kernels.KernelError) as error:
        return f"resnest-zoo-kernels: {error}"
    return None


def kernels() -> ModuleType:
    """The package, its library loaded; only where `available` has no reason against it."""
    return import_module("resnest_zoo_kernels")


def refuse_tensors(*tensors: Tensor | None) -> str | None:
    """Why tensors cannot be taken: the kernels know float32 on the CPU, and no gradients."""
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            return f"it is for float32 on the CPU, not for {tensor.dtype} on {tensor.device}"
        if tensor.requires_grad and torch.is_grad_enabled():
            return "it computes no gradients"
    return None


def pixels_of(x: Tensor) -> Tensor:
    """(N, C, H, W) as contiguous (N, H, W, C): no copy where it is channels_last."""
    return x.detach().permute(0, 2, 3, 1).contiguous()
