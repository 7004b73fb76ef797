"""What `train_net.py` does: detectron2's script of that name, on configs and data sets in its layout.

Beyond detectron2's arguments there are `--train-json` and its kin for own data, and how to train.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_zoo.cli.common import positive, report
from resnest_zoo.cli.train import (
    add_run_options,
    exit_code,
    make_options,
    read_training_set,
    seed_everything,
    show_progress,
)
from resnest_zoo.errors import ConfigError, UnknownModelError, ZooError
from resnest_zoo.training.launch import Machines, is_launched, launch

if TYPE_CHECKING:
    from torch import Tensor

    from resnest_zoo.categories import Categories
    from resnest_zoo.config import Config
    from resnest_zoo.data.dataset import Dataset
    from resnest_zoo.distributed import World
    from resnest_zoo.models import GeneralizedRCNN
    from resnest_zoo.structures import Instances
    from resnest_zoo.training.evaluation import Metrics, ValidationSet
    from resnest_zoo.training.named_sets import SetFiles

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the script and return its exit code, which are those of `resnest-zoo train`."""
    args = _parser().parse_args(argv)
    try:
        if not is_launched() and args.num_gpus * args.num_machines > 1:
            return _launch(args)
        from resnest_zoo.distributed import join

        with join() as world:
            show_progress(world)
            return _run(args, world)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ZooError, OSError) as error:
        return report(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_net.py",
        description="Train or evaluate a detector by a config in detectron2's schema.",
        epilog="Without a GPU, --num-gpus N starts N processes on the CPU.",
    )
    parser.add_argument(
        "--config-file", required=True, metavar="FILE|NAME", help="a config, or the name of a model"
    )
    parser.add_argument("--num-gpus", type=positive, default=1, metavar="N", help="of each machine")
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
        parser.add_argument(f"--{part}-json", type=Path, metavar="FILE", help=f"instead of {key}")
        parser.add_argument(f"--{part}-images", type=Path, metavar="DIR", help="its pictures")
    parser.add_argument("--skip-bad", action="store_true", help="leave out annotations that are wrong")
    add_run_options(parser)
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="keys of the config and values"
    )
    return parser


def _launch(args: argparse.Namespace) -> int:
    import torch

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if not torch.cuda.is_available():
        logger.info("no GPU here: %d processes on the CPU, over gloo", args.num_gpus)
    elif args.num_gpus > torch.cuda.device_count():
        raise ConfigError(f"--num-gpus {args.num_gpus}: this machine has {torch.cuda.device_count()}")
    machines = Machines(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
    return launch([sys.executable, *sys.argv], machines)


def _run(args: argparse.Namespace, world: World) -> int:
    from resnest_zoo.training.trainer import train

    config = _config(args, world)
    train_sets, test_sets = _find_files(args, config)
    if args.eval_only:
        return _evaluate_only(args, config, test_sets, world)
    output = Path(config.output_dir)
    options = make_options(args, config, output, config.model.weights)
    skip_bad = args.skip_bad or args.train_json is None  # COCO's own file holds two boxes without height
    parts = [
        read_training_set(files.annotations, files.images, files.panoptic, config, skip_bad)
        for files in train_sets
    ]
    data = _joined(parts)
    model = _build(config, data.categories, world)
    validation = _validation(test_sets[0], model) if test_sets else None
    if len(test_sets) > 1:
        logger.warning("%s: only the first of the test sets is measured while training", test_sets[0].name)
    output.mkdir(parents=True, exist_ok=True)
    if world.is_main:
        (output / "config.yaml").write_text(config.dump(), encoding="utf-8")
    outcome = train(model, data, validation, options, world)
    return exit_code(outcome)


def _config(args: argparse.Namespace, world: World) -> Config:
    from resnest_zoo.api import find_config
    from resnest_zoo.training.schedule import scale_schedule

    config = find_config(args.config_file).override(args.opts)
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
    from resnest_zoo.training.named_sets import SetFiles, find_sets, require_files

    panoptic = config.model.meta_architecture == "PanopticFPN"
    own: dict[str, list[SetFiles]] = {}
    for part in ("train", "val"):
        json, images = getattr(args, f"{part}_json"), getattr(args, f"{part}_images")
        if (json is None) != (images is None):
            raise ConfigError(f"--{part}-json and --{part}-images are given together or not at all")
        own[part] = [] if json is None else [SetFiles(str(json), json, images)]
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


def _joined(parts: list[Dataset]) -> Dataset:
    from itertools import chain

    from resnest_zoo.data.dataset import Dataset

    first = parts[0].categories
    if any(part.categories != first for part in parts):
        raise ConfigError("DATASETS.TRAIN: the data sets have different categories")
    return parts[0] if len(parts) == 1 else Dataset(first, chain.from_iterable(parts))


def _build(config: Config, categories: Categories, world: World) -> GeneralizedRCNN:
    """The model on this process's device, with the weights that training starts from."""
    from resnest_zoo.models import build_model
    from resnest_zoo.training.initial import load_initial

    seed_everything(config.seed)
    model = build_model(config, categories)
    path = find_weights(config.model.weights)
    if path is not None:
        load_initial(model, path)
    return model.to(_device(config, world))


def find_weights(name: str) -> Path | None:
    """The file behind MODEL.WEIGHTS: a path, a name or URL of the zoo, another URL; None for "".

    Raises:
        ConfigError: it is none of these.
        DownloadError: it cannot be had.
    """
    from resnest_zoo import hub
    from resnest_zoo.api import fetch

    path = Path(name).expanduser()
    if not name or path.is_file():
        return path if name else None
    try:
        return fetch(name)
    except UnknownModelError as error:
        if name.startswith(("http://", "https://")):
            return hub.fetch(hub.Artifact.from_url(name))
        raise ConfigError(f"MODEL.WEIGHTS: {name}: no such file, and {error}") from error


def _device(config: Config, world: World) -> str:
    import torch

    device = config.model.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        logger.info("MODEL.DEVICE is %s, but there is no GPU here: running on the CPU", device)
        device = "cpu"
    return world.device(device)


def _validation(files: SetFiles, model: GeneralizedRCNN) -> ValidationSet:
    from resnest_zoo.training.evaluation import read_validation_set

    return read_validation_set(files.annotations, files.images, model, files.panoptic)


def _evaluate_only(args: argparse.Namespace, config: Config, sets: list[SetFiles], world: World) -> int:
    from resnest_zoo.checkpoint import load_checkpoint, read_model_metadata
    from resnest_zoo.data.coco import read_categories
    from resnest_zoo.models import build_model
    from resnest_zoo.training.evaluation import evaluate
    from resnest_zoo.training.state import LAST

    last = Path(config.output_dir) / LAST
    path = last if args.resume and last.is_file() else find_weights(config.model.weights)
    if path is None:
        raise ConfigError("--eval-only: name the weights: MODEL.WEIGHTS PATH")
    described = read_model_metadata(path) if path.suffix == ".safetensors" else None
    categories = described[1] if described else read_categories(sets[0].annotations, sets[0].panoptic)
    model = build_model(config, categories)
    load_checkpoint(model, path)
    model.to(_device(config, world))
    for files in sets:
        data = _validation(files, model)
        _print(world, files.name, evaluate(model, data, world))
        if config.test.aug.enabled:
            _print(world, f"{files.name}, augmented", evaluate(model, data, world, detect=_augmented(model)))
    return 0


def _augmented(model: GeneralizedRCNN) -> Callable[[Tensor], Instances]:
    from resnest_zoo.inference import TTA

    augmented = TTA(model)
    return lambda image: model.finish(augmented.run(image).to("cpu"), encoded=True)


def _print(world: World, title: str, metrics: Metrics | None) -> None:
    if world.is_main and metrics is not None:
        print(title)
        for name, value in metrics.items():
            print(f"  {name:<18} {'none' if value is None else format(value, '.3f')}", flush=True)
