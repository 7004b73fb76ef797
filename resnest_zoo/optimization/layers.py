"""What optimised modules have in common, and the leaves: convolutions with their batch norms folded in.

An optimised module is of a subclass of the original's class and has its parameters, its buffers and their
names. What it computes with is made of them when it is first called, and again when they have changed. Where
it cannot be used, the original's `forward` computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnest_zoo.errors import ZooError
from resnest_zoo.models.layers import Conv2d, DeformConv2d, FrozenBatchNorm2d
from resnest_zoo.ops import choice
from resnest_zoo.ops.convolution import PreparedConv, conv2d, prepare_conv2d
from resnest_zoo.ops.operators import in_graph
from resnest_zoo.ops.sampling import DeformFilters, deform_conv2d, prepare_deform_filters


class Optimized(nn.Module):
    """Mixed into the class of an original, before it.

    A subclass says in `prepare` what it computes with and gets that by `prepared`.
    """

    _made: tuple[Any, Any] | None = None

    def prepare(self) -> Any:
        """What is made of the parameters, once for all calls."""
        return None

    def prepared(self) -> Any:
        """The result of `prepare` for the parameters as they are now."""
        key = (choice.setting(), *(_identity(tensor) for tensor in _tensors(self)))
        made = self._made
        if made is None or made[0] != key:
            with torch.no_grad(), torch.inference_mode(False):
                made = (key, self.prepare())
            self._made = made
        return made[1]

    def can_run(self, x: Tensor) -> bool:
        """Whether the optimised way may be taken; why not is logged once.

        Raises:
            ZooError: it may not, but `RESNEST_ZOO_KERNELS` asks for implementations that need it.
        """
        reason = self._objection(x)
        if reason is None:
            return True
        name = type(self).__name__.removeprefix("Optimized")
        if choice.setting() not in ("", "exact"):
            raise ZooError(
                f"{name}: {choice.VARIABLE}={choice.setting()} cannot be used: {reason}; unset it, or call "
                "the model that was optimised"
            )
        choice.tell_once(name, "computed as by the original", reason)
        return False

    def _objection(self, x: Tensor) -> str | None:
        if self.training:
            return "the model is in training mode"
        if in_graph():
            return "it is recorded for a graph"
        if torch.is_autocast_enabled("cpu"):
            return "autocast is on"
        return objection_to(x) or next(filter(None, map(self._objection_of, self.modules())), None)

    def _objection_of(self, module: nn.Module) -> str | None:
        if module is not self and (module._forward_hooks or module._forward_pre_hooks):
            return "a hook waits for results inside"
        for parameter in module._parameters.values():
            if parameter is not None and (objection := objection_to(parameter)):
                return objection
        return None

    def forget(self) -> None:
        """Make anew what `prepare` makes, at the next call."""
        self._made = None

    def train(self, mode: bool = True) -> Any:
        """As of any module. What was made of the parameters is forgotten."""
        self.forget()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self.forget()
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}


def objection_to(tensor: Tensor) -> str | None:
    """Why the optimised way is not for a tensor; None if it is."""
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
        return f"it is for float32 on the CPU, not for {tensor.dtype} on {tensor.device}"
    if tensor.requires_grad and torch.is_grad_enabled():
        return "gradients are asked for"
    return None


def _tensors(module: nn.Module) -> list[Tensor]:
    return [
        tensor
        for part in module.modules()
        for tensor in (*part._parameters.values(), *part._buffers.values())
        if tensor is not None
    ]


def _identity(tensor: Tensor) -> tuple[int, int]:
    """Changes where a tensor is replaced or written to."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


@dataclass(frozen=True)
class Layer:
    """A convolution and the norm behind it.

    Attributes:
        conv: with the norm folded in where that is a batch norm.
        norm: one that could not be.
    """

    conv: PreparedConv
    norm: nn.Module | None

    def __call__(self, x: Tensor, *, relu: bool = False, add: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'); `add`, which may be overwritten, is added before the ReLU."""
        if self.norm is None:
            return conv2d(x, self.conv, relu=relu, add=add)
        out: Tensor = self.norm(conv2d(x, self.conv))
        out = out if add is None else out + add
        return out.relu_() if relu else out


def fold(conv: nn.Conv2d, norm: nn.Module | None) -> Layer:
    """A convolution ready to run."""
    weight, bias, rest = folded(conv.weight, conv.bias, norm)
    stride, padding = conv.stride[0], int(conv.padding[0])
    return Layer(prepare_conv2d(weight, bias, stride=stride, padding=padding, groups=conv.groups), rest)


def folded(
    weight: Tensor, bias: Tensor | None, norm: nn.Module | None
) -> tuple[Tensor, Tensor | None, nn.Module | None]:
    """Weight (C', …) and bias (C',) with a batch norm in them, and the norm where it is another."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if norm is None or isinstance(norm, nn.Identity):
        return weight, bias, None
    if not isinstance(norm, _BatchNorm | FrozenBatchNorm2d):
        return weight, bias, norm
    if norm.running_mean is None or norm.running_var is None:
        return weight, bias, norm
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach().double()
    shift = -mean * scale if bias is None else (bias.double() - mean) * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach().double()
    shape = (-1, *[1] * (weight.dim() - 1))
    return (weight.double() * scale.view(shape)).float(), shift.float(), None


class OptimizedConv2d(Optimized, Conv2d):
    """A convolution with its norm folded in."""

    def prepare(self) -> Layer:
        """Filters and norm as one."""
        return fold(self, self.norm)

    def run(self, x: Tensor, *, relu: bool = False, add: Tensor | None = None) -> Tensor:
        """As a part of a module that has asked `can_run`: see `Layer`."""
        layer: Layer = self.prepared()
        return layer(x, relu=relu, add=add)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        return self.run(x) if self.can_run(x) else super().forward(x)


@dataclass(frozen=True)
class DeformLayer:
    """A deformable convolution and the norm behind it.

    Attributes:
        filters: with the norm folded in where that is a batch norm.
        bias: (C',), or None.
        norm: one that could not be.
        stride: of both directions.
        padding: of both directions.
        name: of the layer, for errors.
    """

    filters: DeformFilters
    bias: Tensor | None
    norm: nn.Module | None
    stride: int
    padding: int
    name: str

    def __call__(self, x: Tensor, offset: Tensor, mask: Tensor | None, *, relu: bool) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'); see `deform_conv2d`."""
        out = deform_conv2d(
            x,
            offset,
            self.filters,
            mask,
            stride=self.stride,
            padding=self.padding,
            name=self.name,
            bias=self.bias,
            relu=relu and self.norm is None,
            implementation=None,
        )
        if self.norm is None:
            return out
        normed: Tensor = self.norm(out)
        return normed.relu_() if relu else normed


def fold_deform(conv: DeformConv2d, norm: nn.Module | None) -> DeformLayer:
    """A deformable convolution ready to run."""
    parts: Any = conv  # torchvision has no types
    weight, bias, rest = folded(parts.weight, parts.bias, norm)
    filters = prepare_deform_filters(weight, conv.groups)
    return DeformLayer(filters, bias, rest, conv.stride[0], conv.padding[0], conv.name)


class OptimizedDeformConv2d(Optimized, DeformConv2d):
    """A deformable convolution with its norm folded in."""

    def prepare(self) -> DeformLayer:
        """Filters and norm as one."""
        return fold_deform(self, self.norm)

    def run(self, x: Tensor, offset: Tensor, mask: Tensor | None, *, relu: bool) -> Tensor:
        """As a part of a module that has asked `can_run`."""
        layer: DeformLayer = self.prepared()
        return layer(x, offset, mask, relu=relu)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sample at shifted places and convolve; see `DeformConv2d`."""
        if self.can_run(x):
            return self.run(x, offset, mask, relu=False)
        exact: Tensor = super().forward(x, offset, mask)
        return exact


def to_channels_last(x: Tensor) -> Tensor:
    """The same values, each pixel's channels side by side."""
    return x.contiguous(memory_format=torch.channels_last)
