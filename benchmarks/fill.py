"""Write checkpoints in the published layout whose weights are defined by their names (see `golden`).

    python -m benchmarks.fill faster_rcnn_resnest50_dcn --output mirror/

They detect nothing sensible, but exercise download, loading and prediction where no published file is at
hand: the folder serves as a mirror (`RESNEST_ZOO_MIRROR=mirror/`) for entries without a published hash, and
its files as `--weights` of any command.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.golden import filled_model
from benchmarks.golden_mmdetection import write_published
from resnest_zoo.errors import ZooError
from resnest_zoo.hub.staging import staged
from resnest_zoo.registry import MMDETECTION, info


def write_checkpoint(name: str, folder: Path) -> Path:
    """Write the filled checkpoint of an entry under its published file name and return its path."""
    if info(name).name in MMDETECTION:
        folder.mkdir(parents=True, exist_ok=True)
        return write_published(info(name).name, folder)
    model = filled_model(name)
    state = model.state_dict()
    # What detectron2 of 2020 stored beside the weights: readers must pass over it.
    for level, cell in enumerate(model.proposal_generator.anchor_generator.cell_anchors):
        state[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = torch.tensor(cell)
    content = {
        "model": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.02, "momentum": 0.9, "params": [0]}]},
        "scheduler": {"last_epoch": 90000, "milestones": [60000, 80000]},
        "iteration": 89999,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / info(name).artifact.filename
    with staged(path) as part:
        torch.save(content, part, _use_new_zipfile_serialization=False)
    return path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fill", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(argv)
    try:
        for name in args.names:
            print(write_checkpoint(name, args.output))
    except ZooError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
