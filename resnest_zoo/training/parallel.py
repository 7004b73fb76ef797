"""Training in several processes: norms that see all processes' batches, and sums over processes.

Gradients are averaged by PyTorch's `DistributedDataParallel`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnest_zoo.distributed import World
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.layers import SyncableBatchNorm2d, synchronize_norms


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm over the batches of all processes, on any device.

    It stands in for `nn.SyncBatchNorm`, which wants CUDA, and computes the same: N processes are one process
    with the N batches put together. A process may come without any input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = sum_over_processes(wide.new_tensor(x.numel() // x.shape[1]))
        if count == 0:  # no process has any
            return super().forward(x)
        mean = _Sum.apply(wide.sum(dim=(0, 2, 3))) / count  # (C,)
        centred = wide - mean[:, None, None]
        variance = _Sum.apply((centred * centred).sum(dim=(0, 2, 3))) / count  # (C,)
        self._track(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt() * self.weight
        normed: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normed.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's gradient is the sum of what all of them want."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sum_over_processes(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return sum_over_processes(grads[0].clone())


def sum_over_processes(x: Tensor) -> Tensor:
    """`x` itself, after the values of all processes were added into it."""
    if dist.is_initialized():
        dist.all_reduce(x)
    return x


def synchronize(model: GeneralizedRCNN, world: World) -> GeneralizedRCNN:
    """Let the norms that the config calls "SyncBN" see the batches of all processes, in place.

    In a world of one they stay plain batch norms, which is the same.
    """
    if world.size == 1:
        return model
    if model.device.type == "cuda":
        synchronize_norms(model)
        return model
    for name, module in list(model.named_modules()):
        if isinstance(module, SyncableBatchNorm2d):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _synced(module))
    return model


def _synced(norm: nn.BatchNorm2d) -> SyncedBatchNorm2d:
    synced = SyncedBatchNorm2d(norm.num_features, norm.eps, norm.momentum or 0.0, device="meta")
    synced.load_state_dict(norm.state_dict(keep_vars=True), assign=True)
    return synced.train(norm.training)


def distribute(model: GeneralizedRCNN, world: World) -> nn.Module:
    """The model as it is called in training: with several processes, gradients become their mean."""
    if world.size == 1:
        return model
    device = model.device
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
