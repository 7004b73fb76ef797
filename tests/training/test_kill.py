"""Runs that are killed outright, whenever it happens, and resumed end as the unbroken one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnest_zoo.config import load_config
from tests.training.small_run import PANOPTIC, SMALL

REPOSITORY = Path(__file__).parent.parent.parent
_CHANGES = {
    **PANOPTIC,
    "TEST.EVAL_PERIOD": 6,
    "TEST.PRECISE_BN.ENABLED": True,
    "TEST.PRECISE_BN.NUM_ITER": 2,
    "SOLVER.MAX_ITER": 24,
    "SOLVER.CHECKPOINT_PERIOD": 4,
    "SOLVER.STEPS": (16,),
    "DATALOADER.NUM_WORKERS": 1,
}


def start(pictures: Path, config: Path, output: Path) -> subprocess.Popen[bytes]:
    sets = ("train", "val")
    data = [f"--{s}-json={pictures / 'annotations.json'}" for s in sets]
    data += [f"--{s}-images={pictures}" for s in sets]
    data += [x for s in sets for x in (f"--{s}-panoptic", pictures / "panoptic.json", pictures / "segments")]
    given = ["--model", config, "--from-scratch", "--output", output, "--resume", "--ema", "0.9"]
    keys = [
        x
        for key in ("MAX_ITER", "CHECKPOINT_PERIOD", "STEPS")
        for x in (f"SOLVER.{key}", str(_CHANGES[f"SOLVER.{key}"]))
    ]
    keys += ["TEST.EVAL_PERIOD", "6", "TEST.PRECISE_BN.NUM_ITER", "2"]
    command = [sys.executable, "-m", "resnest_zoo", "train", *data, *given, "--device", "cpu", *keys]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_the_unbroken_one_bit_for_bit(
    pictures: Path, tmp_path: Path
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(load_config("Base-RCNN-FPN.yaml", {**SMALL, **_CHANGES}).dump())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(pictures, config, whole).wait(300) == 0
    rng, kills = random.Random(0), 0
    while True:
        process = start(pictures, config, parts)
        deadline = time.monotonic() + 300
        seen = len(list(parts.glob("*.safetensors")))
        # From the first sign of progress on, some moment of the next second or two.
        while process.poll() is None and len(list(parts.glob("*.safetensors"))) == seen:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.5) if kills < 5 else 0)
        if kills < 5 and process.poll() is None:
            process.kill()
            process.wait()
            kills += 1
        elif process.wait(300) == 0:
            break
    assert kills >= 2
    for name in ("state", "last", "best"):
        one, other = ((folder / f"{name}.safetensors").read_bytes() for folder in (whole, parts))
        assert one == other, name
    assert not list(parts.glob("*.part"))
