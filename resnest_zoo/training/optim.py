"""SGD, its learning rate at each iteration, and the clipping of gradients, all by SOLVER.

Source: detectron2, solver/build.py and solver/lr_scheduler.py; fvcore, common/param_scheduler.py.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from resnest_zoo.config import ClipGradients, Solver
from resnest_zoo.errors import ConfigError

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm)
_EPSILON = 1e-6  # of the fraction done, so that rounding never delays a step of the schedule


def build_optimizer(model: nn.Module, solver: Solver) -> torch.optim.SGD:
    """SGD with momentum over the parameters that train.

    Norms have their own weight decay. Biases, also those of norms, have their own factor of the learning
    rate and, unless WEIGHT_DECAY_BIAS is None, their own weight decay.

    Returns:
        The optimiser. Each group holds `param_names` and the learning rate before the schedule, `base_lr`.
    """
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            lr = solver.base_lr
            decay = solver.weight_decay_norm if isinstance(module, _NORMS) else solver.weight_decay
            if name == "bias":
                lr *= solver.bias_lr_factor
                decay = decay if solver.weight_decay_bias is None else solver.weight_decay_bias
            groups.setdefault((lr, decay), []).append((f"{module_name}.{name}", parameter))
    return torch.optim.SGD(
        [{"params": p, "lr": lr, "base_lr": lr, "weight_decay": d} for (lr, d), p in groups.items()],
        momentum=solver.momentum,
        nesterov=solver.nesterov,
    )


def learning_rate_factor(solver: Solver, iteration: int) -> float:
    """The factor of every learning rate at an iteration, counted from 0.

    Raises:
        ConfigError: BASE_LR_END is above BASE_LR.
    """
    done = iteration / solver.max_iter
    warmup = min(solver.warmup_iters / solver.max_iter, 1.0)
    if done + _EPSILON > warmup:
        return _decayed(solver, done)
    start = solver.warmup_factor * _decayed(solver, 0.0)
    if solver.warmup_method == "constant":
        return start
    # Warm-up aims at what the schedule has become when it ends, which for a cosine is below 1.
    return _decayed(solver, warmup) * (done / warmup) + start * (1 - done / warmup)


def _decayed(solver: Solver, done: float) -> float:
    """The schedule without warm-up, when the fraction `done` of all iterations has passed."""
    if solver.lr_scheduler_name == "WarmupCosineLR":
        if solver.base_lr_end > solver.base_lr:
            raise ConfigError(
                f"SOLVER.BASE_LR_END: expected at most SOLVER.BASE_LR {solver.base_lr}, "
                f"got {solver.base_lr_end}"
            )
        end = solver.base_lr_end / solver.base_lr if solver.base_lr else 0.0
        return end + 0.5 * (1 - end) * (1 + math.cos(math.pi * done))
    iteration = int((done + _EPSILON) * solver.max_iter)
    return solver.gamma ** bisect_right(sorted(solver.steps), iteration)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give each group its own learning rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def clip_gradients(parameters: Iterable[Tensor], settings: ClipGradients) -> None:
    """Limit the gradients in place, each parameter's by itself: its values, or its norm."""
    if not settings.enabled:
        return
    for parameter in parameters:
        if settings.clip_type == "value":
            nn.utils.clip_grad_value_(parameter, settings.clip_value)
        else:
            nn.utils.clip_grad_norm_(parameter, settings.clip_value, settings.norm_type)


def are_finite(parameters: Sequence[Tensor]) -> bool:
    """Whether no weight is NaN or infinite.

    One norm of all, a single pass over them; each is looked at only where that norm overflows.
    """
    norm = torch.nn.utils.get_total_norm(parameters)
    return bool(norm.isfinite()) or all(bool(p.isfinite().all()) for p in parameters)
