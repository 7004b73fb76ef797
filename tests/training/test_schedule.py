from __future__ import annotations

import pytest

from resnest_zoo.config import Config, load_config
from resnest_zoo.errors import ConfigError
from resnest_zoo.training.schedule import propose_schedule, scale_schedule

PUBLISHED = "COCO-Detection/faster_rcnn_R_50_FPN_syncbn_range-scale_1x.yaml"


def config(**solver: object) -> Config:
    return load_config(PUBLISHED, {f"SOLVER.{key}": value for key, value in solver.items()})


def test_a_small_data_set_gets_a_short_schedule_of_the_same_shape() -> None:
    found = propose_schedule(config(), 205, 1)
    assert found == {
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 0.02 * 2 / 16,
        "SOLVER.MAX_ITER": 2460,  # 24 * 205 / 2
        "SOLVER.STEPS": [1640, 2187],
        "SOLVER.WARMUP_ITERS": 246,
        "SOLVER.CHECKPOINT_PERIOD": 246,
        "TEST.EVAL_PERIOD": 246,
        "TEST.PRECISE_BN.NUM_ITER": 103,
    }
    config().override(found)


def test_what_the_user_has_decided_stays() -> None:
    found = propose_schedule(config(), 205, 4, iterations=90, batch_size=16, base_lr=0.1)
    assert (found["SOLVER.IMS_PER_BATCH"], found["SOLVER.BASE_LR"], found["SOLVER.MAX_ITER"]) == (16, 0.1, 90)
    assert found["SOLVER.STEPS"] == [60, 80]


@pytest.mark.parametrize(
    ("iterations", "precise_bn", "period"),
    [(30, True, 30), (300, True, 103), (300, False, 30), (3, False, 1)],
)
def test_norms_are_never_measured_on_more_batches_than_were_trained_in_between(
    iterations: int, precise_bn: bool, period: int
) -> None:
    given = config().override({"TEST.PRECISE_BN.ENABLED": precise_bn})
    found = propose_schedule(given, 205, 1, iterations=iterations)
    assert found["TEST.EVAL_PERIOD"] == found["SOLVER.CHECKPOINT_PERIOD"] == period
    assert found["TEST.PRECISE_BN.NUM_ITER"] == 103


@pytest.mark.parametrize(
    ("pictures", "processes", "iterations"), [(3, 1, 500), (118_000, 8, 90_000), (118_000, 1, 720_000)]
)
def test_no_run_is_too_short_or_longer_than_the_published_one(
    pictures: int, processes: int, iterations: int
) -> None:
    found = propose_schedule(config(), pictures, processes)
    assert found["SOLVER.MAX_ITER"] == iterations
    assert found["SOLVER.IMS_PER_BATCH"] == 2 * processes


def test_a_run_of_one_iteration_is_possible() -> None:
    changes = propose_schedule(config(), 1, 1, iterations=1)
    assert changes["SOLVER.STEPS"] == []
    assert changes["SOLVER.WARMUP_ITERS"] == 0
    config().override(changes)


def test_scaling_does_what_detectron2_documents() -> None:
    """The example of its docstring."""
    given = config(
        IMS_PER_BATCH=16,
        BASE_LR=0.1,
        REFERENCE_WORLD_SIZE=8,
        MAX_ITER=5000,
        STEPS=(4000,),
        CHECKPOINT_PERIOD=1000,
    )
    solver = given.override(scale_schedule(given, 16)).solver
    assert (solver.ims_per_batch, solver.base_lr, solver.reference_world_size) == (32, 0.2, 16)
    assert (solver.max_iter, solver.steps, solver.checkpoint_period) == (2500, (2000,), 500)
    assert solver.warmup_iters == 500


def test_nothing_is_scaled_for_the_number_of_processes_it_was_made_for() -> None:
    assert scale_schedule(config(REFERENCE_WORLD_SIZE=8), 8) == {}


def test_scaling_needs_to_know_what_the_schedule_was_made_for() -> None:
    with pytest.raises(ConfigError, match="REFERENCE_WORLD_SIZE is 0"):
        scale_schedule(config(), 4)
    with pytest.raises(
        ConfigError, match=r"IMS_PER_BATCH 16 is no multiple of SOLVER\.REFERENCE_WORLD_SIZE 3"
    ):
        scale_schedule(config(REFERENCE_WORLD_SIZE=3), 4)
