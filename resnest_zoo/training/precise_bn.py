"""Precise batch norm: the norms' statistics measured on many batches with the present weights.

While a model trains, the running statistics lag behind weights that keep changing. Here the weights stand
still, and means and variances are those of all batches put together.

Source: fvcore, nn/precise_bn.py; Wu and Johnson, "Rethinking Batch in BatchNorm", 2021, section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnest_zoo.training.parallel import SyncedBatchNorm2d, sum_over_processes


class _Population:
    """Mean and variance of everything one norm has seen, in float64."""

    def __init__(self, norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> None:
        assert norm.running_mean is not None
        self.count = 0.0
        self.mean = torch.zeros_like(norm.running_mean, dtype=torch.float64)
        self.square_mean = torch.zeros_like(self.mean)

    def add(self, mean: Tensor, variance: Tensor, count: float) -> None:
        """Add a batch of `count` values a channel; its variance is the unbiased one, as norms track it."""
        self.count += count
        mean, variance = mean.double(), variance.double()
        square_mean = mean.square() + variance * ((count - 1) / count)
        self.mean += (mean - self.mean) * (count / self.count)
        self.square_mean += (square_mean - self.square_mean) * (count / self.count)


@torch.no_grad()
def update_statistics(model: nn.Module, forward: Callable[[], object], iterations: int) -> int:
    """Replace the running statistics of all batch norms that train; nothing else changes.

    Args:
        model: its mode is restored at the end; frozen norms are left alone.
        forward: runs the model on a new batch; in training mode, without gradients.
        iterations: how many batches.

    Returns:
        The number of norms.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]
    if not norms:
        return 0
    populations = [_Population(norm) for norm in norms]
    kept = [(norm.momentum, _batches(norm).clone()) for norm in norms]
    counts = torch.zeros(len(norms), device=_batches(norms[0]).device)
    hooks = [norm.register_forward_pre_hook(_counter(counts, k)) for k, norm in enumerate(norms)]
    was_training = model.training
    model.train()
    try:
        for norm in norms:
            norm.momentum = 1.0  # the running statistics are then those of the last batch
        for _ in range(iterations):
            counts.zero_()
            forward()
            _add_batch(norms, populations, counts)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            _batches(norm).copy_(batches)
    for norm, population in zip(norms, populations, strict=True):
        if population.count:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(population.mean)
            norm.running_var.copy_(population.square_mean - population.mean.square())
    return len(norms)


def _batches(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> Tensor:
    assert norm.num_batches_tracked is not None
    return norm.num_batches_tracked


def _counter(counts: Tensor, index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counts[index] = inputs[0].numel() // inputs[0].shape[1]

    return count


def _add_batch(
    norms: list[nn.BatchNorm2d | nn.SyncBatchNorm], populations: list[_Population], counts: Tensor
) -> None:
    """Take over what each norm has just tracked; synchronised ones have seen all processes' values."""
    together = sum_over_processes(counts.clone()).tolist()
    for norm, population, own, of_all in zip(norms, populations, counts.tolist(), together, strict=True):
        count = of_all if isinstance(norm, nn.SyncBatchNorm | SyncedBatchNorm2d) else own
        if count > 1:  # of fewer there is no variance
            assert norm.running_mean is not None
            assert norm.running_var is not None
            population.add(norm.running_mean, norm.running_var, count)
