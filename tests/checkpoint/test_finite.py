"""Weights that are not finite, or that cannot be copied, are refused by name and change nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnest_zoo.checkpoint import load_checkpoint, require_finite, write_safetensors
from resnest_zoo.errors import CheckpointError


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))


def unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.fixture
def model() -> nn.Module:
    return network(0)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(network(1).state_dict())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("format", ["safetensors", "zip", "stream"])
def test_numbers_that_are_not_finite_are_refused_by_tensor(
    tmp_path: Path, model: nn.Module, state: dict[str, Tensor], number: float, format: str
) -> None:
    state["0.weight"][1, 0, 2, 2] = number
    state["1.running_var"][0] = number
    path = tmp_path / "diverged"
    if format == "safetensors":
        write_safetensors(state, path, {})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=format == "zip")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"diverged: 2 tensors hold .* not finite: 0\.weight, 1\.running_var; "
    ):
        load_checkpoint(model, path)
    assert unchanged(model, before)


@pytest.mark.parametrize(
    ("value", "finite"),
    [
        (torch.tensor([3e38, 3e38]), True),  # their sum is infinite, they are not
        (torch.tensor([6e4, 6e4], dtype=torch.float16), True),
        (torch.tensor([3e38, 3e38], dtype=torch.float64), True),
        (torch.tensor([1e300, 1.0], dtype=torch.float64), False),  # as soon as it is float32
        (torch.tensor([float("inf"), float("-inf")]), False),
        (torch.tensor([1.0, float("nan")], dtype=torch.bfloat16), False),
        (torch.tensor(float("nan")), False),
        (torch.empty(0), True),
        (torch.tensor([1, 2]), True),
    ],
)
def test_finite_is_what_is_finite(value: Tensor, finite: bool) -> None:
    if finite:
        require_finite("file", {"w": value, "v": torch.ones(1)})
    else:
        with pytest.raises(CheckpointError, match=r"file: 1 tensors hold .*: w; "):
            require_finite("file", {"w": value, "v": torch.ones(1)})


def test_no_tensors_at_all_are_finite() -> None:
    require_finite("file", {})


class Odd(Tensor):
    """A tensor of a class of its own."""


def odd_tensors() -> dict[str, Any]:
    ordinary = torch.ones(3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prototypes, all of them
        return {
            "sparse": ordinary.to_sparse(),
            "sparse rows": ordinary.to_sparse_csr(),
            "meta": torch.empty(3, 3, device="meta"),
            "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]),
            "quantised": torch.quantize_per_tensor(ordinary, 0.1, 0, torch.qint8),
            "class": ordinary.as_subclass(Odd),
            "conjugate": torch.ones(3, dtype=torch.complex64).conj(),
        }


NAMES = {
    "sparse": "sparse tensor",
    "sparse rows": "sparse tensor",
    "meta": "meta tensor",
    "nested": "nested tensor",
    "quantised": "quantised tensor",
    "class": r"tensor of .*\.Odd",
    "conjugate": "to be conjugated",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_cannot_be_copied_are_refused_before_the_first_is(
    tmp_path: Path, model: nn.Module, state: dict[str, Tensor], kind: str, zipped: bool
) -> None:
    path = tmp_path / "odd.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({**state, "1.bias": odd_tensors()[kind]}, path, _use_new_zipfile_serialization=zipped)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"entry '1.bias' is .*{NAMES[kind]}"):
        load_checkpoint(model, path)
    assert unchanged(model, before)
