"""Convolutions that carry their norm, norms by name, and the initialisations of the reference.

A norm is a child named `norm` of its convolution, as in the checkpoints' keys (`conv1.norm.weight`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.ops.sampling import deform_conv2d


class FrozenBatchNorm2d(nn.Module):
    """A batch norm whose statistics and factors are constants: buffers, so that nothing trains them.

    Source: torchvision, `ops.FrozenBatchNorm2d`; with fewer passes over the data.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # a norm that was not frozen has counted
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """What a print of the module shows."""
        return f"{len(self.weight)}, eps={self.eps}"

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        mean, variance = self.running_mean, self.running_var
        if not (x.requires_grad and torch.is_grad_enabled()):
            return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)
        # For its gradient, `F.batch_norm` would keep the input.
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        normed: Tensor = (x * scale[:, None, None]).add_(shift[:, None, None])
        return normed.to(x.dtype)


class SyncableBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that `synchronize_norms` lets see the batches of all processes."""


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": SyncableBatchNorm2d,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
}


def build_norm(name: str, channels: int) -> nn.Module | None:
    """The norm a config calls `name`; None for the empty name."""
    return _NORMS[name](channels) if name else None


class Conv2d(nn.Conv2d):
    """A convolution with an optional `norm`; it has a bias exactly when it has no norm.

    `bias=False` drops the bias also where there is no norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: str = "",
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=bias and not norm,
        )
        self.norm = build_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        x = super().forward(x)
        return x if self.norm is None else self.norm(x)


class DeformConv2d(nn.Module):
    """A 3x3 deformable convolution (DCNv1; with a mask DCNv2) with an optional `norm` and no bias.

    Attributes:
        name: in the model, for errors; the builder sets it.
    """

    name = "a deformable convolution"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: str = "",
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = (stride, stride), (1, 1), groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, 3, 3))
        self.register_parameter("bias", None)
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.norm = build_norm(norm, out_channels)

    def extra_repr(self) -> str:
        """What a print of the module shows."""
        out_channels, per_group = self.weight.shape[:2]
        return f"{per_group * self.groups}, {out_channels}, stride={self.stride[0]}, groups={self.groups}"

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sample at shifted places and convolve.

        Args:
            x: (N, C_in, H, W).
            offset: (N, 2 * G * 9, H', W'), G deformable groups, (y, x) pairs in input pixels.
            mask: (N, G * 9, H', W') in [0, 1], a factor for each sample; None is all ones.

        Raises:
            NonFiniteError: an offset or a mask holds NaN or infinite values.
        """
        stride, padding = self.stride[0], self.padding[0]
        x = deform_conv2d(x, offset, self.weight, mask, stride=stride, padding=padding, name=self.name)
        return x if self.norm is None else self.norm(x)


def synchronize_norms(module: nn.Module) -> nn.Module:
    """Make the norms that a config calls "SyncBN" share their statistics among processes.

    For training on several accelerators, before the model is wrapped: PyTorch has no such norm for the CPU.
    Keys and values stay; norms called "BN" and frozen ones, too. Modules inside `module` change in place.

    Returns:
        `module`, or its replacement where it is such a norm itself.
    """
    if isinstance(module, SyncableBatchNorm2d):
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return synced
    for name, child in module.named_children():
        setattr(module, name, synchronize_norms(child))
    return module


def freeze(module: nn.Module) -> nn.Module:
    """Stop `module` from training and turn its batch norms into frozen ones, in place where possible.

    Frozen norms hold buffers instead of parameters, under the same names and without
    `num_batches_tracked`, as the published checkpoints do for the stem and res2.
    """
    for parameter in module.parameters():
        parameter.requires_grad = False
    return _freeze_norms(module)


def _freeze_norms(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        frozen: nn.Module = FrozenBatchNorm2d(module.num_features, eps=module.eps).to(module.weight)
        frozen.load_state_dict(module.state_dict())
        return frozen
    for name, child in module.named_children():
        setattr(module, name, _freeze_norms(child))
    return module


def init_msra_(module: nn.Module) -> None:
    """He initialisation by fan-out for ReLU; zero bias. Caffe2's `MSRAFill`."""
    if _is_meta(module):
        return
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
    _zero_bias_(module)


def init_xavier_(module: nn.Module) -> None:
    """Uniform with variance 1 / fan-in; zero bias. Caffe2's `XavierFill`, not PyTorch's Xavier."""
    nn.init.kaiming_uniform_(module.weight, a=1)  # type: ignore[arg-type]
    _zero_bias_(module)


def init_normal_(module: nn.Module, std: float) -> None:
    """Normal with standard deviation `std`; zero bias."""
    if _is_meta(module):
        return
    nn.init.normal_(module.weight, std=std)  # type: ignore[arg-type]
    _zero_bias_(module)


def _is_meta(module: nn.Module) -> bool:
    """Whether there is nothing to fill: normal values on this device would load torch's compiler."""
    return bool(module.weight.is_meta)


def _zero_bias_(module: nn.Module) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def conv_relu(conv: nn.Module, x: Tensor) -> Tensor:
    """Convolution, its norm, ReLU."""
    return F.relu_(conv(x))


def at_least_float32(x: Tensor) -> Tensor:
    """`x` itself, or in float32 where it comes from mixed precision: sums of losses need the bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
