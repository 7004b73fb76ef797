"""Precise batch norm against the mean and variance of everything the norms were given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resnest_zoo.models.layers import FrozenBatchNorm2d
from resnest_zoo.training.precise_bn import update_statistics


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)
    )
    return model.double()


def batches() -> list[Tensor]:
    """Of different sizes: each value counts alike, whatever its batch."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(2, 7, 9), (1, 5, 5), (3, 11, 6)]
    return [torch.rand(n, 3, h, w, generator=generator, dtype=torch.float64) for n, h, w in sizes]


def test_statistics_are_those_of_all_batches_put_together() -> None:
    model = network()
    seen: dict[int, list[Tensor]] = {1: [], 4: []}
    for index, inputs in seen.items():
        hook = lambda _, given, to=inputs: to.append(given[0].detach().clone())  # noqa: E731
        model[index].register_forward_pre_hook(hook)
    data = iter(batches())
    assert update_statistics(model, lambda: model(next(data)), 3) == 2
    for index, inputs in seen.items():
        values = torch.cat([x.transpose(0, 1).flatten(1) for x in inputs], dim=1)  # (C, all)
        torch.testing.assert_close(model[index].running_mean, values.mean(1), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            model[index].running_var, values.var(1, correction=0), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("training", [True, False])
def test_nothing_but_running_statistics_changes(training: bool) -> None:
    model = network().train(training)
    model[1].momentum = 0.3
    before = {k: v.clone() for k, v in model.state_dict().items()}
    update_statistics(model, lambda: model(batches()[0]), 2)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"{n}.running_{s}" for n in (1, 4) for s in ("mean", "var")}
    assert (model[1].momentum, model[4].momentum, model.training) == (0.3, 0.1, training)
    assert all(p.grad is None for p in model.parameters())


def test_it_does_not_matter_what_the_statistics_were() -> None:
    one, other = network(), network()
    for norm in (other[1], other[4]):
        norm.running_mean.fill_(7)
        norm.running_var.fill_(0.01)
    for model in (one, other):
        data = iter(batches())
        update_statistics(model, lambda model=model, data=data: model(next(data)), 3)
    assert torch.equal(one[1].running_mean, other[1].running_mean)
    assert torch.equal(one[4].running_var, other[4].running_var)


def test_the_model_is_as_it_was_after_an_error() -> None:
    model = network().eval()

    def fail() -> None:
        raise RuntimeError("no more pictures")

    with pytest.raises(RuntimeError, match="no more"):
        update_statistics(model, fail, 2)
    assert not model.training
    assert model[1].momentum == 0.1
    assert not model[1]._forward_pre_hooks


def test_a_norm_that_saw_nothing_keeps_its_statistics() -> None:
    model = nn.ModuleList([nn.BatchNorm2d(2), nn.BatchNorm2d(2)]).double()
    x = torch.rand(2, 2, 4, 4, dtype=torch.float64)
    assert update_statistics(model, lambda: model[0](x), 1) == 2
    assert model[1].running_mean.tolist() == [0, 0]
    torch.testing.assert_close(model[0].running_mean, x.mean((0, 2, 3)))


def test_frozen_norms_have_no_part() -> None:
    model = nn.Sequential(FrozenBatchNorm2d(3))
    assert update_statistics(model, lambda: pytest.fail("no need to run"), 5) == 0
