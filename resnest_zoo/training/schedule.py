"""How long and how fast to train: a proposal for a user's data, and detectron2's scaling to more processes.

Both return overrides of a config, for the caller to show and to apply.
"""

from __future__ import annotations

import math

from resnest_zoo.config import Config
from resnest_zoo.errors import ConfigError

Overrides = dict[str, object]

_EPOCHS = 24
_MIN_ITERATIONS = 500
_WARMUP_FRACTION = 0.1
_EVALUATIONS = 10
_PICTURES_EACH = 2  # of each process and batch, as in the published runs on eight GPUs


def propose_schedule(
    config: Config,
    num_pictures: int,
    num_processes: int,
    *,
    iterations: int | None = None,
    batch_size: int | None = None,
    base_lr: float | None = None,
) -> Overrides:
    """A schedule of the config's shape for a data set of another size.

    The learning rate follows the batch size in proportion (Goyal et al., "ImageNet in 1 hour", 2017). Without
    `iterations`, each picture is seen 24 times, but a run has at least 500 iterations and shows no more
    pictures than the config's own. It is evaluated and saved ten times, or less often where measuring batch
    norms precisely would take more batches than are trained in between.

    Args:
        config: whose SOLVER was made for its IMS_PER_BATCH.
        num_pictures: of the data set.
        num_processes: that share a batch.
        iterations: how many, if that is decided.
        batch_size: of all processes together; by default two for each.
        base_lr: the learning rate, if that is decided.
    """
    solver = config.solver
    batch = batch_size or _PICTURES_EACH * num_processes
    longest = max(solver.max_iter * solver.ims_per_batch // batch, 1)
    total = iterations or min(max(math.ceil(_EPOCHS * num_pictures / batch), _MIN_ITERATIONS), longest)
    steps = sorted({round(step * total / solver.max_iter) for step in solver.steps})
    # More batches than one of each picture would measure nothing new.
    measured = min(config.test.precise_bn.num_iter, math.ceil(num_pictures / batch))
    between = max(total // _EVALUATIONS, measured if config.test.precise_bn.enabled else 1)
    period = min(between, total)
    return {
        "SOLVER.IMS_PER_BATCH": batch,
        "SOLVER.BASE_LR": solver.base_lr * batch / solver.ims_per_batch if base_lr is None else base_lr,
        "SOLVER.MAX_ITER": total,
        "SOLVER.STEPS": [step for step in steps if 0 < step < total],
        "SOLVER.WARMUP_ITERS": min(solver.warmup_iters, int(total * _WARMUP_FRACTION)),
        "SOLVER.CHECKPOINT_PERIOD": period,
        "TEST.EVAL_PERIOD": period,
        "TEST.PRECISE_BN.NUM_ITER": measured,
    }


def scale_schedule(config: Config, num_processes: int) -> Overrides:
    """The schedule for another number of processes than REFERENCE_WORLD_SIZE, for which it was made.

    Each process keeps its number of pictures: the batch and the learning rate grow in proportion, and
    everything that is counted in iterations shrinks.

    Returns:
        Empty where the numbers are the same.

    Raises:
        ConfigError: the config does not say what it was made for, or its batch cannot be divided so.

    Source: detectron2, engine/defaults.py, `DefaultTrainer.auto_scale_workers`.
    """
    solver, test = config.solver, config.test
    reference = solver.reference_world_size
    if reference == 0:
        raise ConfigError(
            "SOLVER.REFERENCE_WORLD_SIZE is 0: the config does not say for how many processes it is; "
            "the published ones are for 8"
        )
    if solver.ims_per_batch % reference:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {solver.ims_per_batch} is no multiple of "
            f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
        )
    if reference == num_processes:
        return {}
    scale = num_processes / reference
    return {
        "SOLVER.IMS_PER_BATCH": round(solver.ims_per_batch * scale),
        "SOLVER.BASE_LR": solver.base_lr * scale,
        "SOLVER.MAX_ITER": round(solver.max_iter / scale),
        "SOLVER.WARMUP_ITERS": round(solver.warmup_iters / scale),
        "SOLVER.STEPS": [round(step / scale) for step in solver.steps],
        "SOLVER.CHECKPOINT_PERIOD": round(solver.checkpoint_period / scale),
        "SOLVER.REFERENCE_WORLD_SIZE": num_processes,
        "TEST.EVAL_PERIOD": round(test.eval_period / scale),
    }
