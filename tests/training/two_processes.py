"""What each process of `test_parallel.py` runs: `python -m tests.training.two_processes PICTURES OUTPUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from resnest_zoo.distributed import join
from resnest_zoo.training.trainer import Options, train
from tests.training.small_run import NOT_RANDOM, small_config, small_data, small_model, small_validation

OVERRIDES = {
    **NOT_RANDOM,
    "SOLVER.MAX_ITER": 3,
    "TEST.PRECISE_BN.ENABLED": True,
    "TEST.PRECISE_BN.NUM_ITER": 2,
}


def main(folder: Path, output: Path) -> None:
    """Train in float64 and leave iterations and metrics in `outcome.json`."""
    config = small_config(OVERRIDES)
    data = small_data(folder, config)
    model = small_model(config, data).double()
    output.mkdir(parents=True, exist_ok=True)
    with join() as world:
        validation = {"val": small_validation(folder, model)}
        outcome = train(model, data, validation, Options(output, log_period=1), world)
        if world.is_main:
            (output / "outcome.json").write_text(json.dumps([outcome.iteration, outcome.metrics]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
