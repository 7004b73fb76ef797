"""Files as users have them, of this and other tools, given to `get`: taken, or refused in words that help."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import resnest_zoo
from resnest_zoo.errors import CheckpointError, UnknownModelError

State = dict[str, Tensor]


@pytest.fixture
def weights(tiny: Path) -> State:
    del tiny  # it registers the entry
    return resnest_zoo.get("tiny_detection", pretrained=False).state_dict()


def halved(state: State) -> State:
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


WRITTEN: dict[str, Callable[[State], Any]] = {
    "detectron2's": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.02}]},
        "scheduler": {"last_epoch": 7, "_last_lr": [0.02]},
        "iteration": 7,
    },
    "PyTorch's tutorial's": lambda state: {"model_state_dict": state, "epoch": 7, "loss": torch.tensor(0.5)},
    "Lightning's": lambda state: {
        "state_dict": {f"model.{key}": value for key, value in state.items()},
        "pytorch-lightning_version": "2.5",
        "epoch": 7,
    },
    "with notes between the tensors": lambda state: {**state, "epoch": 7, "best": 0.5, "note": None},
    "in half precision": halved,
}


@pytest.mark.parametrize("way", WRITTEN)
def test_files_of_other_trainers_are_taken(way: str, weights: State, tmp_path: Path) -> None:
    torch.save(WRITTEN[way](weights), tmp_path / "last.ckpt")
    model = resnest_zoo.get("tiny_detection", weights=tmp_path / "last.ckpt")
    tolerance = 1e-2 if way == "in half precision" else 0.0
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=tolerance, atol=tolerance)


def test_safetensors_of_other_tools_are_taken(weights: State, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt", "config": "{}"})
    model = resnest_zoo.get("tiny_detection", weights=tmp_path / "model.safetensors")
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("key", "whose"),
    [
        ("backbone.body.conv1.weight", "a detector of torchvision"),
        ("transformer.decoder.norm.weight", "a DETR"),
    ],
)
def test_a_detector_of_another_library_is_named(tmp_path: Path, key: str, whose: str) -> None:
    torch.save({key: torch.ones(2)}, tmp_path / "theirs.pth")
    with pytest.raises(
        CheckpointError, match=rf"theirs\.pth: belongs to another model, {whose}, .* not built"
    ):
        resnest_zoo.get("tiny_detection", weights=tmp_path / "theirs.pth")


@pytest.mark.parametrize("name", ["epoch_12.pth", "runs/model", "~/best.ckpt"])
def test_a_missing_file_is_told_beside_the_unknown_name(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"No model is called .* [Nn]or is there a file /.*"):
        resnest_zoo.get(name)


def test_a_text_under_the_name_of_weights_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_text("hello")
    with pytest.raises(CheckpointError, match=r"model\.pth: is no checkpoint: .* starts with b'hello'"):
        resnest_zoo.get(tmp_path / "model.pth")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
@pytest.mark.usefixtures("tiny")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for given in ({"name": tmp_path / "pipe.pth"}, {"name": "tiny_mask", "weights": tmp_path / "pipe.pth"}):
        with pytest.raises(CheckpointError, match=r"pipe\.pth: is no checkpoint, but a pipe or device"):
            resnest_zoo.get(**given)
