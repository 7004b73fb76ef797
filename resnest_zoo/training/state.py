"""What a training run leaves on the disk, each file written whole or not at all.

    last.safetensors            the model as of the last save, for use
    best.safetensors            the model with the best score so far
    model_0005000.safetensors   the model after so many iterations, every CHECKPOINT_PERIOD
    state.safetensors           everything that a resumed run needs to go on bit for bit

The first three hold the moving average of the weights where there is one, and in their metadata what the
model was built from. There is no state of random generators to keep: what is drawn at an iteration follows
from the seed, the iteration and the process alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.checkpoint import Checkpoint, model_metadata, require_finite, write_safetensors
from resnest_zoo.errors import CheckpointError, cut, shown
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.training.ema import EMA

logger = logging.getLogger(__name__)

LAST, BEST, STATE = "last.safetensors", "best.safetensors", "state.safetensors"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        seed: of everything random.
        iteration: iterations done, and so the number of the next one.
        evaluated: iterations done at the last evaluation; 0 before the first.
        best: the best score so far.
        metrics: of the last evaluation.
    """

    seed: int
    iteration: int = 0
    evaluated: int = 0
    best: float | None = None
    metrics: dict[str, float | None] | None = None


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that changes while a model trains."""

    model: GeneralizedRCNN
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: EMA | None
    progress: Progress

    @property
    def shown(self) -> GeneralizedRCNN:
        """The model to evaluate and to keep: the average where there is one."""
        return self.model if self.ema is None else self.ema.model

    def save(self, path: Path) -> None:
        """Write everything.

        Raises:
            CheckpointError: the file cannot be written.
        """
        tensors = _prefixed("model", self.model.state_dict()) | _prefixed("momentum", self._momenta())
        if self.ema is not None:
            tensors |= _prefixed("ema", self.ema.model.state_dict())
        content = {"progress": asdict(self.progress), "scaler": self.scaler.state_dict()}
        write_safetensors(tensors, path, _description(self.model) | {"training": json.dumps(content)})

    def load(self, path: Path) -> None:
        """Take over everything that `save` wrote, for a model built alike.

        Raises:
            CheckpointError: the file cannot be read, is no such state, or belongs to another model or to a
                run with or without a moving average.
        """
        tensors = Checkpoint.open(path)
        metadata = tensors.metadata
        if "training" not in metadata:
            raise CheckpointError(
                f"{path}: cannot be resumed from: it holds a model, but no state of training"
            )
        _check(path, {key: value.shape for key, value in tensors.items()}, self._shapes())
        progress, scaler = _read_training(path, metadata)
        require_finite(path, tensors)
        _warn_of_changes(path, metadata, _description(self.model))
        self.model.load_state_dict(_unprefixed("model", tensors))
        if self.ema is not None:
            self.ema.model.load_state_dict(_unprefixed("ema", tensors))
        momenta = _unprefixed("momentum", tensors)
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                buffer = torch.empty_like(parameter, requires_grad=False).copy_(momenta[name])
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        if scaler.keys() == self.scaler.state_dict().keys():  # else this run has another precision
            self.scaler.load_state_dict(scaler)
        vars(self.progress).update(vars(progress))

    def _momenta(self) -> dict[str, Tensor]:
        """The momentum of each parameter that has taken a step."""
        found = {}
        for name, parameter in self.model.named_parameters():
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                found[name] = buffer
        return found

    def _shapes(self) -> dict[str, torch.Size]:
        shapes = {key: value.shape for key, value in _prefixed("model", self.model.state_dict()).items()}
        if self.ema is not None:
            shapes |= {key.replace("model/", "ema/", 1): shape for key, shape in shapes.items()}
        return shapes


def save_model(model: GeneralizedRCNN, path: Path, progress: Progress, started_from: str) -> None:
    """Write a model for use; `resnest_zoo.get(path)` needs nothing else.

    Raises:
        CheckpointError: the file cannot be written.
    """
    note = {"iteration": str(progress.iteration), "started_from": started_from}
    if progress.evaluated == progress.iteration and progress.metrics is not None:
        note["metrics"] = json.dumps(progress.metrics)
    write_safetensors(model.state_dict(), path, {"format": "pt", **_description(model), **note})


def remove_unfinished(folder: Path) -> None:
    """Remove what runs killed in the midst of writing have left."""
    for name in (STATE, LAST, BEST, "model_*.safetensors"):
        for part in folder.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)


def _description(model: GeneralizedRCNN) -> dict[str, str]:
    assert model.config is not None
    return model_metadata(model.config.dump(), model.categories)


def _prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{key}": value for key, value in state.items()}


def _unprefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}


def _read_training(path: Path, metadata: Mapping[str, str]) -> tuple[Progress, dict[str, float]]:
    """How far the run had come, and the state of its scaler of losses.

    Raises:
        CheckpointError: the metadata are not those that `TrainingState.save` writes.
    """
    try:
        if not {"config", "categories"} <= metadata.keys():
            raise ValueError("no config or no categories")
        content = json.loads(metadata["training"])
        progress, scaler = Progress(**content["progress"]), dict(content["scaler"])
        counts = (progress.seed, progress.iteration, progress.evaluated)
        numbers = [progress.best, *(progress.metrics or {}).values(), *scaler.values()]
        if not all(type(count) is int and 0 <= count < 2**63 for count in counts):
            raise ValueError(f"expected counts, got {shown(counts)}")
        if not all(value is None or type(value) in (int, float) for value in numbers):
            raise ValueError(f"expected numbers, got {shown(numbers)}")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be resumed from: what it holds of the training is damaged: {cut(str(error))}"
        ) from error
    return progress, scaler


def _check(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    # Of parameters that have taken no step there is no momentum.
    own = {key.replace("model/", "momentum/", 1): shape for key, shape in expected.items()}
    found = {key: shape for key, shape in found.items() if own.get(key) != shape or key in expected}
    if found == expected:
        return
    averaged, averages = (any(key.startswith("ema/") for key in keys) for keys in (found, expected))
    if averaged != averages:
        raise CheckpointError(
            f"{path}: the run that wrote it had {'a' if averaged else 'no'} moving average of the weights; "
            "resume it with the same setting"
        )
    wrong = sorted(key for key in {*found, *expected} if key not in found or found[key] != expected.get(key))
    raise CheckpointError(
        f"{path}: belongs to a run of another model: {len(wrong)} tensors differ, such as {wrong[0]}; "
        "choose another output folder, or train without resuming"
    )


def _warn_of_changes(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say which keys of the config are not those the run was started with: allowed, but seldom meant."""
    old, new = (set(text["config"].splitlines()) for text in (before, now))
    if before["categories"] != now["categories"]:
        raise CheckpointError(f"{path}: belongs to a run with other classes")
    if old != new:
        changed = ", ".join(sorted(line.strip() for line in new - old))
        logger.warning("%s: resumed with a changed config: %s", path, changed or "keys were removed")
