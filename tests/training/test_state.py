"""The state of a run on the disk: complete, whole or not there, and refused where it does not belong."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from resnest_zoo.checkpoint import Checkpoint, write_safetensors
from resnest_zoo.config import Config
from resnest_zoo.errors import CheckpointError
from resnest_zoo.training import state as state_module
from resnest_zoo.training.ema import EMA
from resnest_zoo.training.optim import build_optimizer
from resnest_zoo.training.state import Progress, TrainingState
from tests.mutations import check_each, mutated_json
from tests.training.small_run import MASKS, small_config, small_data, small_model


def fresh(pictures: Path, config: Config, averaged: bool = False) -> TrainingState:
    model = small_model(config, small_data(pictures, config))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainingState(
        model,
        build_optimizer(model, config.solver),
        scaler,
        EMA(model, 0.5) if averaged else None,
        Progress(3),
    )


@pytest.fixture
def moved(pictures: Path) -> TrainingState:
    """A state after a step, with an average and a history."""
    state = fresh(pictures, small_config(), averaged=True)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    assert state.ema is not None
    state.ema.update(state.model, 0)
    state.progress.iteration, state.progress.evaluated, state.progress.best = 7, 5, 0.1 + 0.2
    state.progress.metrics = {"bbox/AP": 1 / 3, "bbox/APl": None}
    return state


def test_everything_comes_back(pictures: Path, tmp_path: Path, moved: TrainingState) -> None:
    path = tmp_path / "state.safetensors"
    moved.save(path)
    back = fresh(pictures, small_config(), averaged=True)
    back.load(path)
    assert back.progress == moved.progress
    for one, other in ((moved.model, back.model), (moved.shown, back.shown)):
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
    trained = [p for p in moved.model.parameters() if p.requires_grad]
    mine = [p for p in back.model.parameters() if p.requires_grad]
    for one, other in zip(trained, mine, strict=True):
        buffers = moved.optimizer.state[one], back.optimizer.state[other]
        assert torch.equal(*(buffer["momentum_buffer"] for buffer in buffers))
    back.save(tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_an_interrupted_save_leaves_the_old_state(
    tmp_path: Path, moved: TrainingState, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    moved.save(path)
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        moved.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_what_a_kill_has_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = [".state.safetensors.0a1b2c3d.part", ".model_0000500.safetensors.0a1b2c3d.part"]
    kept = ["state.safetensors", "notes.part", ".own.part"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    state_module.remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_a_model_for_use_is_no_state(pictures: Path, tmp_path: Path, moved: TrainingState) -> None:
    path = tmp_path / "last.safetensors"
    state_module.save_model(moved.model, path, moved.progress, "")
    with pytest.raises(CheckpointError, match="holds a model, but no state of training"):
        fresh(pictures, small_config()).load(path)


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_a_run_with_an_average_stays_one(pictures: Path, tmp_path: Path, before: bool, after: bool) -> None:
    path = tmp_path / "state.safetensors"
    fresh(pictures, small_config(), averaged=before).save(path)
    had = "had a" if before else "had no"
    with pytest.raises(CheckpointError, match=f"{had} moving average"):
        fresh(pictures, small_config(), averaged=after).load(path)


def test_a_run_of_another_model_is_refused(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    fresh(pictures, small_config()).save(path)
    with pytest.raises(CheckpointError, match=r"belongs to a run of another model: .* tensors differ"):
        fresh(pictures, small_config(MASKS)).load(path)


def test_a_changed_config_is_told(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.safetensors"
    fresh(pictures, small_config()).save(path)
    with caplog.at_level(logging.WARNING):
        fresh(pictures, small_config()).load(path)
        assert not caplog.text
        fresh(pictures, small_config({"SOLVER.BASE_LR": 0.5})).load(path)
    assert "resumed with a changed config: BASE_LR: 0.5" in caplog.text


def test_a_damaged_state_is_refused(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    fresh(pictures, small_config()).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        fresh(pictures, small_config()).load(path)


def test_damaged_notes_of_the_training_are_refused_and_change_nothing(
    pictures: Path, tmp_path: Path, moved: TrainingState
) -> None:
    path = tmp_path / "state.safetensors"
    moved.save(path)
    file = Checkpoint.open(path)
    tensors, metadata = dict(file), file.metadata
    state = fresh(pictures, small_config(), averaged=True)
    before = {key: value.clone() for key, value in state.model.state_dict().items()}

    def use(content: bytes) -> None:
        text = content.decode("utf-8", "replace")
        write_safetensors(tensors, path, {**metadata, "training": text})
        try:
            state.load(path)
        except CheckpointError:
            assert all(torch.equal(value, before[key]) for key, value in state.model.state_dict().items())
            assert state.progress == Progress(3)
            raise
        assert state.progress.iteration + state.progress.evaluated >= 0
        state.model.load_state_dict(before)
        vars(state.progress).update(vars(Progress(3)))

    check_each(mutated_json(json.loads(metadata["training"]), 60), use)


@pytest.mark.parametrize("name", ["momentum/x", "momentum/backbone.fpn_output2.weight"])
def test_momentum_of_other_parameters_is_refused(
    pictures: Path, tmp_path: Path, moved: TrainingState, name: str
) -> None:
    path = tmp_path / "state.safetensors"
    moved.save(path)
    file = Checkpoint.open(path)
    assert name == "momentum/x" or name in file
    write_safetensors({**file, name: torch.zeros(1)}, path, file.metadata)
    with pytest.raises(CheckpointError, match=f"another model: 1 tensors differ, such as {name}"):
        fresh(pictures, small_config(), averaged=True).load(path)


def test_a_state_of_other_tensors_is_refused(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    write_safetensors({"model/x": torch.zeros(1)}, path, {"training": "{}", "config": "", "categories": ""})
    with pytest.raises(CheckpointError, match="another model"):
        fresh(pictures, small_config()).load(path)
