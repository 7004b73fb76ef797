"""One side of `train_speed`: a process that trains when its parent tells it to.

    python -m benchmarks.train_side ours faster_rcnn_resnet50 --weights shared.pt

What it says and hears stands in `sides`; a run is one iteration.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.golden_values import image
from benchmarks.sides import Stopwatch
from resnest_zoo.config import load_config, resolve_path
from resnest_zoo.data.samples import Sample
from resnest_zoo.distributed import World
from resnest_zoo.models import build_model
from resnest_zoo.registry import info
from resnest_zoo.structures import Targets
from resnest_zoo.training import trainer

BATCH = 2  # what the norms of split attention need
_BATCHES = 4
_OBJECTS = 7  # in a picture, as in COCO
_STUFF = 54
# Both sides clip, and the semantic head has the norm that detectron2 and its fork build alike.
_OPTS = (
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.IMS_PER_BATCH", str(BATCH)),
    *("MODEL.SEM_SEG_HEAD.NORM", "GN"),
)


def draw_samples(size: tuple[int, int], count: int) -> list[Sample]:
    """Pictures with wavy ellipses of any size as instances, and semantic blocks."""
    height, width = size
    samples = []
    for index in range(count):
        rng = np.random.default_rng(index)
        angle = np.linspace(0, 2 * np.pi, 25)[:-1]
        radii = np.exp(rng.uniform(np.log(8), np.log(min(size) / 3), (_OBJECTS, 1, 2)))
        waves = 1 - 0.2 * np.sin(5 * angle)[:, None] ** 2
        outlines = np.stack((np.cos(angle), np.sin(angle)), axis=1) * waves * radii  # (object, corner, xy)
        outlines += rng.uniform(radii, np.array([width, height]) - radii)
        boxes = np.concatenate((outlines.min(axis=1), outlines.max(axis=1)), axis=1)
        classes = torch.from_numpy(rng.integers(0, 80, _OBJECTS))
        rows, columns = np.mgrid[:height, :width]
        semantic = torch.from_numpy((rows // 32 * 7 + columns // 32 * 3 + index) % _STUFF)
        polygons = [[points.ravel().tolist()] for points in outlines]
        targets = Targets(torch.from_numpy(boxes).float(), classes, polygons, semantic)
        picture = torch.from_numpy(image(height, width, index))
        samples.append(Sample(picture, targets, index, Path(f"{index}.png")))
    return samples


def _batched(samples: Sequence[Any]) -> list[Sequence[Any]]:
    return [samples[k : k + BATCH] for k in range(0, len(samples), BATCH)]


def _in_turn(watch: Stopwatch, batches: Sequence[Any]) -> Iterator[Any]:
    """The batches in turn, without end; KeyboardInterrupt once the parent asks for no more."""
    supply = cycle(batches)
    for _ in watch.runs():
        yield next(supply)
    raise KeyboardInterrupt


def train_ours(args: argparse.Namespace) -> None:
    """`resnest_zoo`'s own loop, its reading of pictures replaced; leaves the weights for the other side."""
    watch = Stopwatch(args.device)
    torch.manual_seed(0)
    model = build_model(load_config(str(info(args.model).config), [*_OPTS, *args.opts]))
    torch.save(model.state_dict(), args.weights)
    batches = _batched(draw_samples(args.size, _BATCHES * BATCH))
    data: Any = None  # what would read it is replaced
    loader = patch.object(trainer, "build_training_loader", lambda *_, **__: _in_turn(watch, batches))
    with tempfile.TemporaryDirectory() as folder, loader:
        trainer.train(model.to(args.device), data, {}, trainer.Options(Path(folder)), World())


def train_theirs(args: argparse.Namespace) -> None:
    """detectron2's `SimpleTrainer` with its schedule and its records of losses."""
    from detectron2.config import get_cfg
    from detectron2.engine import SimpleTrainer, hooks
    from detectron2.modeling import build_model as build
    from detectron2.solver import build_lr_scheduler, build_optimizer

    watch = Stopwatch(args.device)
    cfg = get_cfg()
    forked = "RADIX" in cfg.MODEL.RESNETS
    cfg.set_new_allowed(True)
    cfg.merge_from_file(str(resolve_path(str(info(args.model).config))))
    cfg.merge_from_list([*_OPTS, "MODEL.DEVICE", args.device, *args.opts])
    if cfg.MODEL.RESNETS.get("RADIX", 1) > 1:
        if not forked:
            raise SystemExit("this detectron2 has no ResNeSt")
        cfg.MODEL.RESNETS.DEEP_STEM = cfg.MODEL.RESNETS.AVD = cfg.MODEL.RESNETS.AVG_DOWN = True
    model = build(cfg)
    unequal = model.load_state_dict(torch.load(args.weights), strict=False)
    assert not unequal.unexpected_keys, unequal
    assert all("anchor" in k or "pixel" in k or k.endswith("tracked") for k in unequal.missing_keys), unequal
    batches = _batched([_convert(s, cfg) for s in draw_samples(args.size, _BATCHES * BATCH)])
    optimizer = build_optimizer(cfg, model)
    run = SimpleTrainer(model, _in_turn(watch, batches), optimizer)
    run.register_hooks([hooks.LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer))])
    run.train(0, cfg.SOLVER.MAX_ITER)


def _convert(sample: Sample, cfg: Any) -> dict[str, Any]:
    from detectron2.structures import Boxes, Instances, PolygonMasks

    targets: Any = sample.targets
    instances = Instances(tuple(sample.image.shape[1:]))
    instances.gt_boxes, instances.gt_classes = Boxes(targets.boxes), targets.classes
    if cfg.MODEL.MASK_ON:
        instances.gt_masks = PolygonMasks([[np.array(p) for p in polygons] for polygons in targets.masks])
    picture = sample.image.flip(0) if cfg.INPUT.FORMAT == "BGR" else sample.image
    return {"image": picture, "instances": instances, "sem_seg": targets.semantic}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("side", choices=("ours", "theirs"))
    parser.add_argument("model")
    parser.add_argument("--weights", type=Path, required=True, help="file that the first side leaves")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--opts", nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        {"ours": train_ours, "theirs": train_theirs}[args.side](args)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
