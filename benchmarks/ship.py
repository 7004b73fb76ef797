"""Make the packaged checkpoints from a training run of the panoptic model.

    python -m benchmarks.ship RUN

`panoptic_resnest14_dcn_shapes` is the run's `best.safetensors` in half precision. Its twin,
`mask_rcnn_resnest14_dcn_shapes`, is the same network without the semantic head. Both hold config and classes.
Afterwards `resnest_zoo/zoo/shipped.py` wants their hashes, sizes and, from `benchmarks.verify`, numbers.
"""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path

import torch

from resnest_zoo.categories import SHAPES
from resnest_zoo.checkpoint import load_checkpoint, model_metadata, write_safetensors
from resnest_zoo.config import load_config
from resnest_zoo.errors import ZooError
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.registry import info
from resnest_zoo.zoo.shipped import WEIGHTS

PANOPTIC, MASK = "panoptic_resnest14_dcn_shapes", "mask_rcnn_resnest14_dcn_shapes"


def ship(run: Path) -> list[Path]:
    """Write both files and return their paths."""
    panoptic = _build(PANOPTIC)
    load_checkpoint(panoptic, run / "best.safetensors")
    mask = _build(MASK)
    state = panoptic.state_dict()
    mask.load_state_dict({key: state[key] for key in mask.state_dict()})
    WEIGHTS.mkdir(exist_ok=True)
    return [_write(name, model) for name, model in ((PANOPTIC, panoptic), (MASK, mask))]


def _build(name: str) -> GeneralizedRCNN:
    entry = info(name)
    assert entry.config is not None
    return build_model(load_config(entry.config), entry.categories)


def _write(name: str, model: GeneralizedRCNN) -> Path:
    assert model.config is not None
    entry = info(name)
    state = {
        key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    path = WEIGHTS / entry.artifact.filename
    described = model_metadata(model.config.dump(), entry.categories or SHAPES)
    write_safetensors(state, path, {"format": "pt", "name": name, **described})
    return path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ship", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the training run")
    args = parser.parse_args(argv)
    try:
        with torch.no_grad():
            paths = ship(args.run)
    except ZooError as error:
        parser.error(str(error))
    for path in paths:
        print(f"{path}  {path.stat().st_size:,} bytes  {sha256(path.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
