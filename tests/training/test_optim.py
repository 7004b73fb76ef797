"""Parameter groups, learning rates and clipping, against plain formulas and detectron2's own numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from resnest_zoo.config import ClipGradients, Solver
from resnest_zoo.errors import ConfigError
from resnest_zoo.training.optim import (
    build_optimizer,
    clip_gradients,
    learning_rate_factor,
    set_learning_rate,
)


class Layers(nn.Module):
    """One of each kind; `frozen` does not train."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.gn = nn.GroupNorm(2, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def groups(**settings: Any) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter by name."""
    optimizer = build_optimizer(Layers(), Solver(base_lr=0.1, weight_decay=0.01, **settings))
    return {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


def test_norms_have_their_own_weight_decay_and_frozen_parameters_no_part() -> None:
    plain, norm = (0.1, 0.01), (0.1, 0.0)
    assert groups() == {
        "conv.weight": plain,
        "conv.bias": plain,
        "bn.weight": norm,
        "bn.bias": norm,
        "gn.weight": norm,
        "gn.bias": norm,
    }


def test_biases_also_those_of_norms_have_their_own_factor_and_weight_decay() -> None:
    found = groups(bias_lr_factor=2.0, weight_decay_bias=0.5, weight_decay_norm=0.02)
    assert found["conv.weight"] == (0.1, 0.01)
    assert found["bn.weight"] == found["gn.weight"] == (0.1, 0.02)
    assert found["conv.bias"] == found["bn.bias"] == found["gn.bias"] == (0.2, 0.5)


def test_momentum_and_nesterov_reach_every_group() -> None:
    optimizer = build_optimizer(Layers(), Solver(momentum=0.8, nesterov=True))
    assert {(g["momentum"], g["nesterov"]) for g in optimizer.param_groups} == {(0.8, True)}


# Learning rates that detectron2's scheduler gives, BASE_LR 0.02, STEPS (60000, 80000), MAX_ITER 90000.
@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        (
            {},
            {
                0: 2e-05,
                1: 3.998e-05,
                500: 0.01001,
                999: 0.01998002,
                1000: 0.02,
                59999: 0.02,
                60000: 0.002,
                79999: 0.002,
                80000: 0.00020000000000000004,
            },
        ),
        (
            {"warmup_method": "constant", "warmup_factor": 0.1, "gamma": 0.5},
            {0: 0.002, 999: 0.002, 1000: 0.02, 60000: 0.01, 80000: 0.005},
        ),
        (
            {"lr_scheduler_name": "WarmupCosineLR", "base_lr_end": 0.0002},
            {
                0: 2e-05,
                1: 3.997396918748905e-05,
                999: 0.019973995218301562,
                1000: 0.01999396918748905,
                45000: 0.0101,
                89999: 0.00020000000603142537,
            },
        ),
    ],
)
def test_learning_rates_are_those_of_detectron2(settings: dict[str, Any], rates: dict[int, float]) -> None:
    solver = Solver(base_lr=0.02, steps=(60000, 80000), max_iter=90000, **settings)
    assert {t: 0.02 * learning_rate_factor(solver, t) for t in rates} == rates


def naive_factor(solver: Solver, t: int) -> float:
    def plain(t: float) -> float:
        if solver.lr_scheduler_name == "WarmupCosineLR":
            low = solver.base_lr_end / solver.base_lr
            return low + (1 - low) * (1 + math.cos(math.pi * t / solver.max_iter)) / 2
        factor = 1.0
        for step in solver.steps:
            factor *= solver.gamma if t >= step else 1
        return factor

    if t >= solver.warmup_iters:
        return plain(t)
    low = solver.warmup_factor * plain(0)
    if solver.warmup_method == "constant":
        return low
    return low + (plain(min(solver.warmup_iters, solver.max_iter)) - low) * t / solver.warmup_iters


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 7, 35])
@pytest.mark.parametrize("steps", [(), (20,), (3, 20, 39), (20, 90)])
def test_the_factor_equals_the_plain_formula(
    name: Any, method: Any, warmup: int, steps: tuple[int, ...]
) -> None:
    solver = Solver(
        lr_scheduler_name=name,
        base_lr=0.1,
        base_lr_end=0.01,
        max_iter=40,
        steps=steps,
        warmup_iters=warmup,
        warmup_method=method,
        warmup_factor=0.2,
    )
    for t in range(40):
        assert learning_rate_factor(solver, t) == pytest.approx(naive_factor(solver, t), rel=1e-12)


def test_a_cosine_that_would_rise_is_refused() -> None:
    solver = Solver(lr_scheduler_name="WarmupCosineLR", base_lr=0.01, base_lr_end=0.1, warmup_iters=0)
    with pytest.raises(ConfigError, match=r"BASE_LR_END: expected at most SOLVER\.BASE_LR 0\.01, got 0\.1"):
        learning_rate_factor(solver, 0)


def test_each_group_keeps_its_own_rate_when_the_schedule_moves() -> None:
    optimizer = build_optimizer(Layers(), Solver(base_lr=0.1, bias_lr_factor=2.0))
    for factor in (0.5, 0.1):
        set_learning_rate(optimizer, factor)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [0.1 * 0.1, 0.2 * 0.1]


def with_gradients() -> list[torch.Tensor]:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for parameter, gradient in zip(parameters, ([3.0, -4.0], [0.3, 0.4], [0.0, -9.0]), strict=True):
        parameter.grad = torch.tensor(gradient)
    return list(parameters)


def gradients(parameters: list[torch.Tensor]) -> list[list[float]]:
    return [p.grad.tolist() for p in parameters if p.grad is not None]


def test_values_are_clipped_one_by_one() -> None:
    parameters = with_gradients()
    clip_gradients(parameters, ClipGradients(enabled=True, clip_type="value", clip_value=1.0))
    assert gradients(parameters) == [[1.0, -1.0], [pytest.approx(0.3), pytest.approx(0.4)], [0.0, -1.0]]


@pytest.mark.parametrize(("norm_type", "norms"), [(1.0, (7.0, 0.7, 9.0)), (2.0, (5.0, 0.5, 9.0))])
def test_norms_are_clipped_of_each_parameter_by_itself(norm_type: float, norms: tuple[float, ...]) -> None:
    before, after = with_gradients(), with_gradients()
    clip_gradients(after, ClipGradients(enabled=True, clip_type="norm", clip_value=2.0, norm_type=norm_type))
    for old, new, norm in zip(gradients(before), gradients(after), norms, strict=True):
        assert new == pytest.approx([value * min(1.0, 2.0 / norm) for value in old], rel=1e-5)


def test_gradients_stay_when_clipping_is_off() -> None:
    parameters = with_gradients()
    clip_gradients(parameters, ClipGradients(enabled=False, clip_value=0.01))
    assert gradients(parameters) == gradients(with_gradients())
