"""The training loop.

One process, on a GPU or the CPU:

    resnest-zoo train --model mask_rcnn_resnest50 --train-json train.json --train-images train/
    python train_net.py --config-file faster_rcnn_resnest50

Eight GPUs of one machine; two machines of eight:

    python train_net.py --config-file faster_rcnn_resnest50 --num-gpus 8
    torchrun --nproc_per_node=8 train_net.py --config-file faster_rcnn_resnest50
    python train_net.py --config-file faster_rcnn_resnest50 --num-gpus 8 --num-machines 2 \\
        --machine-rank RANK --dist-url tcp://HOST:PORT

What is drawn at random at an iteration follows from the seed, the iteration and the process; the batch does
too. So a run that was stopped or killed and is resumed ends in the same weights as one that was not.

Source of the order of things: detectron2, engine/defaults.py, `DefaultTrainer`.
"""

from __future__ import annotations

import logging
import math
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from resnest_zoo.config import Config
from resnest_zoo.data.dataset import Dataset
from resnest_zoo.data.loading import build_training_loader
from resnest_zoo.data.samples import Sample
from resnest_zoo.distributed import World
from resnest_zoo.errors import ConfigError, TrainingError, ZooError
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.layers import SyncableBatchNorm2d
from resnest_zoo.models.resnest import pooled_norms
from resnest_zoo.training.ema import EMA
from resnest_zoo.training.evaluation import Metrics, evaluate_all
from resnest_zoo.training.optim import (
    are_finite,
    build_optimizer,
    clip_gradients,
    learning_rate_factor,
    set_learning_rate,
)
from resnest_zoo.training.parallel import distribute, sum_over_processes, synchronize
from resnest_zoo.training.precise_bn import update_statistics
from resnest_zoo.training.recorder import Recorder
from resnest_zoo.training.state import (
    BEST,
    LAST,
    STATE,
    Progress,
    TrainingState,
    remove_unfinished,
    save_model,
)
from resnest_zoo.training.stopping import Stop
from resnest_zoo.training.validation import ValidationSet

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Options:
    """What a run is told beside the config.

    Attributes:
        output: folder of checkpoints and records; all machines must see it.
        started_from: name of the weights the model was given, to be written into its checkpoints.
        precision: of convolutions and matrix products; below float32 by autocast, float16 with scaled losses.
        channels_last: memory layout that suits tensor cores.
        ema_decay: of a moving average of the weights, which is then what is evaluated and kept; 0 for none.
        log_period: iterations between two records.
        resume: go on from the state in `output`, if there is one.
    """

    output: Path
    started_from: str = ""
    precision: Precision = "float32"
    channels_last: bool = False
    ema_decay: float = 0.0
    log_period: int = 20
    resume: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        iteration: iterations done.
        metrics: of the last evaluation, in percent; None without one.
        signal: that stopped it early; None when it is complete.
    """

    iteration: int
    metrics: Metrics | None
    signal: signal.Signals | None = None


@dataclass(frozen=True, eq=False)
class _Run:
    """The parts of a run that stay the same."""

    config: Config
    state: TrainingState
    data: Dataset
    validation: Mapping[str, ValidationSet]
    options: Options
    world: World

    def batches(self, seed: int, first: int) -> Iterator[list[Sample]]:
        """This process's batches, without end."""
        place = {"rank": self.world.rank, "world_size": self.world.size, "first_iteration": first}
        return iter(build_training_loader(self.config, self.data, seed, **place))


def train(
    model: GeneralizedRCNN,
    data: Dataset,
    validation: Mapping[str, ValidationSet],
    options: Options,
    world: World,
) -> Outcome:
    """Train a model as its config says.

    SIGTERM and Ctrl-C end the run after the present iteration, with everything saved; a second Ctrl-C ends it
    at once.

    Args:
        model: on its device, with the weights to start from.
        data: to train on.
        validation: sets by name to measure on, every TEST.EVAL_PERIOD iterations and at the end. The main
            metric of the first one decides which model is the best.
        options: what else there is to say.
        world: the processes, which all call this together.

    Raises:
        TrainingError: a loss or a weight is NaN or infinite: the checkpoints before that stay as they are. Or
            a picture cannot be used, a process that reads pictures died, or an evaluation failed: everything
            was saved before, so that `resume` goes on there.
        CheckpointError: a checkpoint cannot be read or written.
        ConfigError: config and data do not fit together.
    """
    assert model.config is not None
    solver = model.config.solver
    _check_batch(model, solver.ims_per_batch, world)
    parallel = distribute(synchronize(model, world), world).train()
    state = _start(model, options, world)
    optimizer, scaler, progress = state.optimizer, state.scaler, state.progress
    run = _Run(model.config, state, data, validation, options, world)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    saved = progress.iteration
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        recorder = _open_recorder(run, stack)
        batches = run.batches(progress.seed, progress.iteration)
        while True:
            if progress.evaluated < progress.iteration and _is_due(run, model.config.test.eval_period):
                _save_and_measure(run, stop, recorder, saved)
                saved = min(saved, progress.iteration - 1)  # what was measured is part of a checkpoint
            stop.agreed |= world.size == 1 and stop.is_received()
            finished = stop.agreed or progress.iteration >= solver.max_iter
            if saved < progress.iteration and (finished or _is_due(run, solver.checkpoint_period)):
                _save(run)
                saved = progress.iteration
            if finished:
                if stop.agreed:
                    logger.warning("stopped at iteration %d; --resume goes on", progress.iteration)
                return Outcome(progress.iteration, progress.metrics, stop.signal)

            started = perf_counter()
            samples = _next_batch(run, batches, saved)
            data_seconds = perf_counter() - started
            factor = learning_rate_factor(solver, progress.iteration)
            set_learning_rate(optimizer, factor)
            optimizer.zero_grad()  # here, so that the activations do not come on top of the last gradients
            losses = _losses(run, parallel, samples, progress.iteration)
            scaler.scale(torch.stack([*losses.values()]).sum()).backward()
            means = _mean_losses(run, losses, samples, stop)
            del losses  # and with them what is left of the graph
            _update(run, parameters, samples)
            if recorder is not None:
                times = {"seconds": perf_counter() - started, "data_seconds": data_seconds}
                recorder.step(progress.iteration, solver.base_lr * factor, {**means, **times})


def _check_batch(model: GeneralizedRCNN, pictures: int, world: World) -> None:
    """Refuse batches that PyTorch would refuse in words nobody can act upon."""
    for norm in pooled_norms(model):
        seen = pictures if isinstance(norm, SyncableBatchNorm2d) else pictures // world.size
        if seen < 2:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH: {pictures}, but split attention has one value of each picture and "
                "channel, so that its batch norms need at least two pictures at once; take more, or set "
                "MODEL.RESNETS.NORM to FrozenBN"
            )


def _start(model: GeneralizedRCNN, options: Options, world: World) -> TrainingState:
    """A fresh state, or the one that the output folder holds."""
    assert model.config is not None
    seed = model.config.seed
    if seed < 0:
        seed = world.broadcast(secrets.randbits(31))
        logger.info("SEED is %d: this run draws %d", model.config.seed, seed)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    state = TrainingState(
        model,
        build_optimizer(model, model.config.solver),
        torch.amp.GradScaler(model.device.type, enabled=options.precision == "float16"),
        EMA(model, options.ema_decay) if options.ema_decay else None,
        Progress(seed),
    )
    if world.is_main:
        remove_unfinished(options.output)
    path = options.output / STATE
    if options.resume and world.broadcast(path.is_file()):
        state.load(path)
        logger.info("%s: goes on at iteration %d", path, state.progress.iteration)
    elif options.resume:
        logger.info("%s: there is none, so this run starts at iteration 0", path)
    return state


def _open_recorder(run: _Run, stack: ExitStack) -> Recorder | None:
    """Records of process 0, which speaks for all."""
    if not run.world.is_main:
        return None
    first, last = run.state.progress.iteration, run.config.solver.max_iter
    return stack.enter_context(Recorder(run.options.output, first, last, run.options.log_period))


def _is_due(run: _Run, period: int) -> bool:
    """Whether something that happens every `period` iterations, or never for 0, and at the end is due."""
    done = run.state.progress.iteration
    return done >= run.config.solver.max_iter or (period > 0 and done % period == 0)


def _next_batch(run: _Run, batches: Iterator[list[Sample]], saved: int) -> list[Sample]:
    """This process's next batch; where one process gets none, all end, and what is not `saved` yet is.

    Raises:
        TrainingError: a picture cannot be used, or a process that reads pictures died.
    """
    samples, problem, done = [], None, run.state.progress.iteration
    try:
        samples = next(batches)
    except ZooError as error:
        problem = str(error)
    failures = sum_over_processes(torch.tensor(int(problem is not None)))
    if not failures:
        return samples
    problem = run.world.first(problem)  # else the others would wait for this process
    if saved < done:
        _save(run)
    kept = (
        f"iteration {done} is saved in {run.options.output}, --resume goes on" if done else "nothing is lost"
    )
    raise TrainingError(f"iteration {done}: {problem}; {kept}")


def _losses(
    run: _Run, model: nn.Module, samples: list[Sample], iteration: int, *, seed_offset: int = 0
) -> dict[str, Tensor]:
    """The losses of one batch, with what is random in them drawn by seed, iteration and process."""
    place = (run.state.progress.seed + seed_offset, iteration, run.world.rank)
    drawn = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
    precision = run.options.precision
    autocast = torch.autocast(
        run.state.model.device.type,
        torch.float16 if precision == "float16" else torch.bfloat16,
        enabled=precision != "float32",
    )
    try:
        with autocast:
            losses: dict[str, Tensor] = model(
                [sample.image for sample in samples],
                [sample.targets for sample in samples],
                generator=torch.Generator().manual_seed(drawn),
            )
    except ZooError as error:
        raise TrainingError(f"iteration {iteration}, pictures {_names(samples)}: {error}") from error
    return losses


def _names(samples: list[Sample]) -> list[str]:
    return [f"{sample.image_id} ({sample.file})" for sample in samples]  # ids repeat between data sets


def _all_names(run: _Run, samples: list[Sample]) -> list[list[str]]:
    """The pictures of each process's batch, in every process."""
    return run.world.broadcast(run.world.gather(_names(samples)))


def _mean_losses(run: _Run, losses: dict[str, Tensor], samples: list[Sample], stop: Stop) -> dict[str, float]:
    """The losses and their sum, `loss`, as means over the processes; also lets these agree on stopping.

    Raises:
        TrainingError: one is NaN or infinite, in every process.
    """
    own = torch.stack([loss.detach() for loss in losses.values()]).double().tolist()
    values = sum_over_processes(torch.tensor([*own, stop.received is not None], dtype=torch.float64))
    *means, stops = (values / run.world.size).tolist()
    stop.agreed = stops > 0
    named = dict(zip(losses, means, strict=True))
    if all(map(math.isfinite, means)):
        return {"loss": sum(means), **named}
    pictures = _all_names(run, samples)
    raise TrainingError(
        f"iteration {run.state.progress.iteration}: the losses are not finite: "
        + ", ".join(f"{name} {value:g}" for name, value in named.items())
        + f"; pictures of each process: {pictures}. Nothing was saved after this. Go on from "
        "an earlier checkpoint with a lower SOLVER.BASE_LR, more SOLVER.WARMUP_ITERS or clipped gradients"
    )


def _update(run: _Run, parameters: list[Tensor], samples: list[Sample]) -> None:
    """Step along the gradients, which ends the iteration.

    Raises:
        TrainingError: a weight is NaN or infinite after that.
    """
    state = run.state
    state.scaler.unscale_(state.optimizer)
    clip_gradients(parameters, run.config.solver.clip_gradients)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if not are_finite(parameters):
        _refuse_broken(run, samples)
    if state.ema is not None:
        state.ema.update(state.model, state.progress.iteration)
    state.progress.iteration += 1


def _save_and_measure(run: _Run, stop: Stop, recorder: Recorder | None, saved: int) -> None:
    """Measure, and save beforehand what is not `saved` yet: a failure then costs no iteration.

    Raises:
        TrainingError: the evaluation failed.
    """
    iteration, output = run.state.progress.iteration, run.options.output
    if saved < iteration and (run.validation or run.config.test.precise_bn.enabled):
        _save(run)
    _refuse_broken(run)
    try:
        _measure(run, stop, recorder)
    except ZooError as error:
        raise TrainingError(
            f"{error}\nThe evaluation after iteration {iteration} failed, and nothing is lost: {output} "
            "holds the run up to there. Correct the cause and give the same command with --resume, which "
            "evaluates first and then trains on"
        ) from error


def _measure(run: _Run, stop: Stop, recorder: Recorder | None) -> None:
    """Precise batch norm, the validation set, and the best model so far."""
    progress, shown = run.state.progress, run.state.shown
    if run.config.test.precise_bn.enabled:
        _measure_norms(run)
    if run.validation:
        metrics = evaluate_all(shown, run.validation, run.world, stopped=stop.is_received)
        if metrics is None:
            stop.agreed = True
            return
        progress.metrics = metrics
        score = next(iter(metrics.values()))
        if recorder is not None:
            recorder.evaluation(progress.iteration, metrics)
        if score is not None and (progress.best is None or score > progress.best):
            progress.best, progress.evaluated = score, progress.iteration
            if run.world.is_main:
                save_model(shown, run.options.output / BEST, progress, run.options.started_from)
    progress.evaluated = progress.iteration


def _measure_norms(run: _Run) -> None:
    iterations, shown = run.config.test.precise_bn.num_iter, run.state.shown
    batches = run.batches(run.state.progress.seed + 1, 0)  # others than those of training, always the same
    numbers = iter(range(iterations))

    def forward() -> None:
        _losses(run, shown, next(batches), next(numbers), seed_offset=1)

    count = update_statistics(shown, forward, iterations)
    logger.info("statistics of %d batch norms measured on %d batches", count, iterations)


def _save(run: _Run) -> None:
    """Write the state last: a resumed run then writes again whatever a kill has left out."""
    state, output, progress = run.state, run.options.output, run.state.progress
    _refuse_broken(run)
    if not run.world.is_main:
        return
    save_model(state.shown, output / LAST, progress, run.options.started_from)
    if progress.iteration % run.config.solver.checkpoint_period == 0:
        path = output / f"model_{progress.iteration:07d}.safetensors"
        save_model(state.shown, path, progress, run.options.started_from)
    state.save(output / STATE)
    logger.info("saved iteration %d in %s", progress.iteration, output)


def _refuse_broken(run: _Run, samples: list[Sample] | None = None) -> None:
    """Stop before broken weights are averaged, measured, or written over good ones.

    Losses show them only an iteration later. After a step, which breaks the weights of all processes alike,
    `samples` are what this process learnt from.
    """
    for name, value in run.state.model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            of = "" if samples is None else f" after pictures {_all_names(run, samples)}"
            raise TrainingError(
                f"iteration {run.state.progress.iteration}: {name} holds NaN or infinite values{of}; nothing "
                "was saved after this. Go on from an earlier checkpoint with a lower SOLVER.BASE_LR"
            )
