"""What `train_net.py` does: detectron2's script of that name, on configs and data sets in its layout.

Beyond detectron2's arguments there are `--train-json` and its kin for own data, which there is registered in
Python, and how to train.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_zoo.cli.arguments import CommandParser, add_overrides, natural, positive
from resnest_zoo.cli.common import guarded, print_metrics, require_figures, sole_run
from resnest_zoo.cli.train import (
    BY_NAME,
    add_run_options,
    exit_code,
    make_options,
    read_training_set,
    seed_everything,
    show_progress,
)
from resnest_zoo.errors import ConfigError
from resnest_zoo.hub.staging import staged
from resnest_zoo.training.launch import Machines, is_launched, launch

if TYPE_CHECKING:
    from torch import Tensor

    from resnest_zoo.categories import Categories
    from resnest_zoo.config import Config
    from resnest_zoo.data.dataset import Dataset
    from resnest_zoo.distributed import World
    from resnest_zoo.models import GeneralizedRCNN
    from resnest_zoo.structures import Instances
    from resnest_zoo.training.evaluation import Metrics
    from resnest_zoo.training.named_sets import SetFiles
    from resnest_zoo.training.validation import ValidationSet

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the script and return its exit code, which are those of `resnest-zoo train`."""
    return guarded(lambda: _start(_parser().parse_args(argv)))


def _start(args: argparse.Namespace) -> int:
    if not is_launched() and max(args.num_gpus, 1) * args.num_machines > 1:
        return _launch(args)
    from resnest_zoo.distributed import join

    with join() as world:
        show_progress(world)
        return _run(args, world)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="train_net.py",
        description="Train or evaluate a detector by a config in detectron2's schema.",
        epilog="Without a GPU, --num-gpus N starts N processes on the CPU.",
    )
    parser.add_argument(
        "--config-file", required=True, metavar="FILE|NAME", help="a config, or the name of a model"
    )
    parser.add_argument(
        "--num-gpus", type=natural, default=1, metavar="N", help="of each machine; 0: on the CPU"
    )
    parser.add_argument("--num-machines", type=positive, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="K", help="of this machine, from 0")
    parser.add_argument("--dist-url", default="", metavar="tcp://HOST:PORT", help="where machines meet")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, train nothing")
    parser.add_argument(
        "--scale-lr",
        action="store_true",
        help="fit the schedule to this number of processes, by SOLVER.REFERENCE_WORLD_SIZE",
    )
    for part, key in (("train", "DATASETS.TRAIN"), ("val", "DATASETS.TEST")):
        add = partial(parser.add_argument, type=Path, action="append", default=[])
        add(f"--{part}-json", metavar="FILE", help=f"instead of {key}; once for each set")
        add(f"--{part}-images", metavar="DIR", help="its pictures")
        add(
            f"--{part}-panoptic",
            nargs=2,
            metavar=("FILE", "DIR"),
            help="its panoptic annotations and their PNG files, for panoptic models",
        )
    parser.add_argument("--by-name", action="store_true", help=f"of DATASETS.TEST: {BY_NAME}")
    parser.add_argument("--skip-bad", action="store_true", help="leave out annotations that are wrong")
    add_run_options(parser)
    add_overrides(parser, rest=True)
    return parser


def _launch(args: argparse.Namespace) -> int:
    import torch

    from resnest_zoo.api import find_config

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if args.num_gpus and not torch.cuda.is_available():
        logger.info("no GPU here: %d processes on the CPU, over gloo", args.num_gpus)
    elif args.num_gpus > torch.cuda.device_count():
        raise ConfigError(f"--num-gpus {args.num_gpus}: this machine has {torch.cuda.device_count()}")
    # What is missing is told once, before there are processes that would each tell it.
    _find_files(args, find_config(args.config_file).override(args.overrides))
    machines = Machines(max(args.num_gpus, 1), args.num_machines, args.machine_rank, args.dist_url)
    return launch([sys.executable, *sys.argv], machines)


def _run(args: argparse.Namespace, world: World) -> int:
    config = _config(args, world)
    train_sets, test_sets = _find_files(args, config)
    if args.eval_only:
        return _evaluate_only(args, config, test_sets, world)
    with sole_run(Path(config.output_dir), world):
        return _train_in(args, config, train_sets, test_sets, world)


def _train_in(
    args: argparse.Namespace,
    config: Config,
    train_sets: list[SetFiles],
    test_sets: list[SetFiles],
    world: World,
) -> int:
    from resnest_zoo.training.trainer import train

    output = Path(config.output_dir)
    options = make_options(args, config, output, config.model.weights)
    skip_bad = args.skip_bad or not args.train_json  # COCO's own file holds two boxes without height
    data = _read_training_sets(train_sets, config, skip_bad)
    model = _build(config, data.categories, world)
    validation = _validation(test_sets, model, world, args.by_name)
    if world.is_main:
        with staged(options.output / "config.yaml") as part:
            part.write_text(config.dump(), encoding="utf-8")
    outcome = train(model, data, validation, options, world)
    return exit_code(outcome)


def _config(args: argparse.Namespace, world: World) -> Config:
    from resnest_zoo.api import find_config
    from resnest_zoo.training.schedule import scale_schedule

    config = find_config(args.config_file).override(args.overrides)
    if args.num_gpus == 0:
        config = config.override({"MODEL.DEVICE": "cpu"})
    if args.scale_lr:
        changes = scale_schedule(config, world.size)
        for key, value in changes.items():
            logger.info("--scale-lr: %s %s", key, value)
        return config.override(changes)
    if config.solver.reference_world_size not in (0, world.size):
        logger.warning(
            "SOLVER.REFERENCE_WORLD_SIZE is %d, and this run has %d processes; --scale-lr would fit the "
            "schedule to them",
            config.solver.reference_world_size,
            world.size,
        )
    return config


def _find_files(args: argparse.Namespace, config: Config) -> tuple[list[SetFiles], list[SetFiles]]:
    """The files of the data sets to train and to measure on, all there."""
    from resnest_zoo.training.named_sets import find_sets, require_files

    panoptic = config.model.meta_architecture == "PanopticFPN"
    own = {part: _own_files(args, part) for part in ("train", "val")}
    train_sets = [] if args.eval_only else own["train"] or find_sets(config.datasets.train, panoptic)
    # A run on own data is not measured on COCO.
    measured = own["val"] or not own["train"]
    test_sets = (own["val"] or find_sets(config.datasets.test, panoptic)) if measured else []
    if not args.eval_only and not train_sets:
        raise ConfigError("DATASETS.TRAIN is empty: name a data set, or give --train-json and --train-images")
    if args.eval_only and not test_sets:
        raise ConfigError("DATASETS.TEST is empty: name a data set, or give --val-json and --val-images")
    require_files([*train_sets, *test_sets])
    return train_sets, test_sets


def _own_files(args: argparse.Namespace, part: str) -> list[SetFiles]:
    """The user's own data sets, of which each is named by its annotations."""
    from resnest_zoo.data.panoptic import PanopticFiles
    from resnest_zoo.training.named_sets import SetFiles

    files, images, panoptic = (getattr(args, f"{part}_{kind}") for kind in ("json", "images", "panoptic"))
    if len(files) != len(images):
        raise ConfigError(f"--{part}-json and --{part}-images are given together or not at all")
    if len(panoptic) not in (0, len(files)):
        raise ConfigError(f"--{part}-panoptic is given for each --{part}-json or for none")
    segments = [PanopticFiles(*paths) for paths in panoptic] if panoptic else [None] * len(files)
    return [SetFiles(str(file), file, *more) for file, *more in zip(files, images, segments, strict=True)]


def _read_training_sets(sets: list[SetFiles], config: Config, skip_bad: bool) -> Dataset:
    """The pictures of all sets, one set after another."""
    from itertools import chain

    from resnest_zoo.data.dataset import Dataset

    parts: list[Dataset] = []
    for files in sets:
        parts.append(read_training_set(files.annotations, files.images, files.panoptic, config, skip_bad))
        _require_same(parts[0].categories, parts[-1].categories, sets[0].name, files.name)
    if len(parts) == 1:
        return parts[0]
    skips = all(part.left_out is not None for part in parts)
    return Dataset(parts[0].categories, chain.from_iterable(parts), skip_unreadable=skips)


def _require_same(first: Categories, other: Categories, first_name: str, other_name: str) -> None:
    if first == other:
        return
    rows = [_listed(categories) for categories in (first, other)]
    only = [", ".join([row for row in rows[k] if row not in rows[1 - k]][:10]) or "none" for k in (0, 1)]
    raise ConfigError(
        "data sets that are trained on together need the same categories, ids and names; only in "
        f"{first_name}: {only[0]}; only in {other_name}: {only[1]}"
    )


def _listed(categories: Categories) -> list[str]:
    things = zip(categories.thing_ids, categories.things, strict=True)
    stuff = zip(categories.stuff_ids, categories.stuff, strict=True)
    return [*(f"{k} {name!r}" for k, name in things), *(f"{k} {name!r} (stuff)" for k, name in stuff)]


def _build(config: Config, categories: Categories, world: World) -> GeneralizedRCNN:
    """The model on this process's device, with the weights that training starts from."""
    from resnest_zoo.api.start import find_start
    from resnest_zoo.models import build_model
    from resnest_zoo.training.initial import load_initial

    seed_everything(config.seed)
    model = build_model(config, categories)
    start = find_start(config.model.weights, config)
    if start is not None:
        load_initial(model, start.path, start.entry.categories if start.entry else None)
    return model.to(_device(config, world))


def _device(config: Config, world: World) -> str:
    import torch

    device = config.model.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        logger.info("MODEL.DEVICE is %s, but there is no GPU here: running on the CPU", device)
        device = "cpu"
    return world.device(device)


def _validation(
    sets: list[SetFiles], model: GeneralizedRCNN, world: World, by_name: bool
) -> dict[str, ValidationSet]:
    from resnest_zoo.training.validation import read_validation_set

    found = {}
    for files in sets:
        paths = files.annotations, files.images
        found[files.name] = read_validation_set(*paths, model, files.panoptic, world, by_name=by_name)
    return found


def _evaluate_only(args: argparse.Namespace, config: Config, sets: list[SetFiles], world: World) -> int:
    from resnest_zoo.api.start import Start, find_start
    from resnest_zoo.checkpoint import Checkpoint, load_checkpoint
    from resnest_zoo.data.coco import read_categories
    from resnest_zoo.models import build_model
    from resnest_zoo.training.evaluation import evaluate
    from resnest_zoo.training.state import LAST

    last = Path(config.output_dir) / LAST
    resumed = args.resume and last.is_file()
    start = Start(last) if resumed else find_start(config.model.weights, config)
    if start is None:
        raise ConfigError("--eval-only: name the weights: MODEL.WEIGHTS PATH")
    checkpoint = Checkpoint.open(start.path)
    categories = checkpoint.categories or (start.entry.categories if start.entry else None)
    categories = categories or read_categories(sets[0].annotations, sets[0].panoptic)
    model = build_model(config, categories)
    load_checkpoint(model, checkpoint)
    model.to(_device(config, world))
    measured = {}
    for name, data in _validation(sets, model, world, args.by_name).items():
        measured[name] = evaluate(model, data, world)
        _show(world, name, measured[name])
        if config.test.aug.enabled:
            _show(world, f"{name}, augmented", evaluate(model, data, world, detect=_augmented(model)))
    require_figures(measured)
    return 0


def _augmented(model: GeneralizedRCNN) -> Callable[[Tensor], Instances]:
    from resnest_zoo.inference import TTA

    augmented = TTA(model)
    return lambda image: model.finish(augmented.run(image).to("cpu"), encoded=True)


def _show(world: World, title: str, metrics: Metrics | None) -> None:
    if world.is_main and metrics is not None:
        print_metrics(title, metrics)
