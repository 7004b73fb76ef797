"""The commands `train` and `plot`: a detector learns a user's data, and its curves.

Exit codes of `train` beside the usual: 143 ended by SIGTERM and 130 by Ctrl-C, both with everything saved,
so that `--resume` goes on.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.arguments import add_model, add_overrides, positive
from resnest_zoo.cli.common import sole_run
from resnest_zoo.errors import ConfigError, DataError
from resnest_zoo.hub.staging import write_staged

if TYPE_CHECKING:
    from resnest_zoo.categories import Categories
    from resnest_zoo.config import Config
    from resnest_zoo.data.dataset import Dataset
    from resnest_zoo.data.panoptic import PanopticFiles
    from resnest_zoo.distributed import World
    from resnest_zoo.models import GeneralizedRCNN
    from resnest_zoo.training.trainer import Options, Outcome, Precision

BY_NAME = "take categories for classes of the model by their names, whatever their ids"
_PRECISIONS = ("float32", "bfloat16", "float16")


def add_commands(commands: Any) -> None:
    """Add the parsers of this module's commands."""
    train = commands.add_parser(
        "train",
        help="train a detector on your data",
        description="Train a detector on pictures annotated in COCO's JSON, which names the classes.",
        epilog="exit codes: 0 done, 1 failed; 130 and 143 ended by Ctrl-C or SIGTERM, with everything saved",
    )
    add_model(
        train,
        "what to start from; also a config or a checkpoint",
        "other weights to start from, of a detector or a backbone of the zoo",
    )
    train.add_argument("--from-scratch", action="store_true", help="start from random weights")
    for part in ("train", "val"):
        needed = part == "train"
        train.add_argument(f"--{part}-json", type=Path, required=needed, metavar="FILE", help="annotations")
        train.add_argument(f"--{part}-images", type=Path, required=needed, metavar="DIR", help="pictures")
        train.add_argument(
            f"--{part}-panoptic",
            type=Path,
            nargs=2,
            metavar=("FILE", "DIR"),
            help="panoptic annotations and their PNG files, for panoptic models",
        )
    train.add_argument("--by-name", action="store_true", help=f"of --val-json: {BY_NAME}")
    train.add_argument("--skip-bad", action="store_true", help="leave out annotations that are wrong")
    train.add_argument("-o", "--output", type=Path, default=Path("out"), metavar="DIR", help="default: out")
    train.add_argument("--iterations", type=positive, metavar="N", help="default: by the number of pictures")
    train.add_argument("--batch-size", type=positive, metavar="B", help="default: 2 for each process")
    train.add_argument("--lr", type=float, metavar="X", help="default: the config's, by the batch size")
    add_run_options(train)
    add_overrides(train)
    train.set_defaults(run=_train)

    plot = commands.add_parser("plot", help="draw the curves of a training run")
    plot.add_argument("run_folder", type=Path, metavar="RUN", help="the folder that `train` wrote")
    plot.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: RUN/curves.png")
    plot.set_defaults(run=_plot)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Arguments that say how to train and are no keys of a config."""
    parser.add_argument("--resume", action="store_true", help="go on where the run in the folder ended")
    parser.add_argument("--precision", choices=_PRECISIONS, help="default: by SOLVER.AMP.ENABLED")
    parser.add_argument("--channels-last", action="store_true", help="memory layout for tensor cores")
    parser.add_argument(
        "--ema", type=float, default=0.0, metavar="DECAY", help="keep a moving average, such as 0.9998"
    )
    parser.add_argument("--log-period", type=positive, default=20, metavar="N", help="iterations; default 20")


def make_options(args: argparse.Namespace, config: Config, output: Path, started_from: str) -> Options:
    """The options of a run.

    Raises:
        ConfigError: a value is out of its range, or `output` holds a run that is not to be resumed.
    """
    import torch

    from resnest_zoo.training.trainer import Options

    if not 0 <= args.ema < 1:
        raise ConfigError(f"--ema: expected a number from 0 to below 1, got {args.ema}")
    refuse_other_run(output, args.resume)
    amp: Precision = "float16" if torch.cuda.is_available() else "bfloat16"
    precision: Precision = args.precision or (amp if config.solver.amp.enabled else "float32")
    return Options(
        output, started_from, precision, args.channels_last, args.ema, args.log_period, args.resume
    )


def refuse_other_run(output: Path, resume: bool) -> None:
    """Refuse to write over the state of a run.

    Raises:
        ConfigError: `output` holds one that is not to be resumed.
    """
    from resnest_zoo.training.state import STATE

    if (output / STATE).exists() and not resume:
        raise ConfigError(
            f"{output} holds a run already: --resume goes on with it; else choose another folder, or remove "
            "this one"
        )


def exit_code(outcome: Outcome) -> int:
    """0 for a complete run, else what shells give for the signal that ended it."""
    return 0 if outcome.signal is None else 128 + outcome.signal


def show_progress(world: World) -> None:
    """Let process 0 say what it does, and the others only what is wrong."""
    level = logging.INFO if world.is_main else logging.ERROR
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("resnest_zoo").setLevel(level)


def _train(args: argparse.Namespace) -> int:
    if (args.val_json is None) != (args.val_images is None):
        raise ConfigError("--val-json and --val-images are given together or not at all")
    require_data(args.train_json, args.train_images, args.train_panoptic)
    if args.val_json is not None:
        require_data(args.val_json, args.val_images, args.val_panoptic)
    from resnest_zoo.distributed import join

    with join() as world:
        show_progress(world)
        from resnest_zoo.api import find_config

        config = find_config(args.model, args.overrides)
        options = make_options(args, config, args.output, args.weights or args.model)
        with sole_run(args.output, world):
            refuse_other_run(args.output, args.resume)  # one that has just ended
            return _train_in(args, config, options, world)


def _train_in(args: argparse.Namespace, config: Config, options: Options, world: World) -> int:
    from resnest_zoo.api import find_config
    from resnest_zoo.training.schedule import propose_schedule
    from resnest_zoo.training.trainer import train
    from resnest_zoo.training.validation import read_validation_set

    panoptic = panoptic_files(args.train_panoptic)
    data = read_training_set(args.train_json, args.train_images, panoptic, config, args.skip_bad)
    schedule = propose_schedule(
        find_config(args.model),
        len(data),
        world.size,
        iterations=args.iterations,
        batch_size=args.batch_size,
        base_lr=args.lr,
    )
    given = dict(zip(args.overrides[::2], args.overrides[1::2], strict=True))
    changes = {**schedule, **given}
    seed_everything(config.seed)
    model = _starting_model(args, data.categories, config, changes, world)
    validation = {}
    assert model.config is not None
    if world.is_main:
        _print_plan(model.config, data, args.output)
    if args.val_json is not None:
        panoptic = panoptic_files(args.val_panoptic)
        files = args.val_json, args.val_images
        validation["val"] = read_validation_set(*files, model, panoptic, world, by_name=args.by_name)
    return exit_code(train(model, data, validation, options, world))


def _starting_model(
    args: argparse.Namespace,
    categories: Categories,
    config: Config,
    changes: dict[str, Any],
    world: World,
) -> GeneralizedRCNN:
    """The model with the weights that training starts from, those of a whole detector or of a backbone."""
    from resnest_zoo.api import get
    from resnest_zoo.api.start import find_start
    from resnest_zoo.checkpoint import Checkpoint
    from resnest_zoo.training.initial import load_initial

    start = find_start(args.weights or "", config)
    backbone = start is not None and not Checkpoint.open(start.path).is_detector
    model = get(
        args.model,
        pretrained=not (args.from_scratch or backbone),
        weights=None if start is None or backbone else start.path,
        categories=categories,
        device=world.device(args.device or default_device()),
        overrides=changes,
        rename=False,
    )
    if start is not None and backbone:
        load_initial(model, start.path)
    return model


def read_training_set(
    annotations: Path, images: Path, panoptic: PanopticFiles | None, config: Config, skip_bad: bool
) -> Dataset:
    """The data set that `config` needs.

    Raises:
        DataError: as `read_dataset`, in the words of the command line.
    """
    from resnest_zoo.data.coco import read_dataset

    try:
        return read_dataset(
            annotations,
            images,
            panoptic=panoptic,
            masks=config.model.mask_on,
            filter_empty=config.dataloader.filter_empty_annotations,
            skip_bad=skip_bad,
        )
    except DataError as error:
        raise DataError(str(error).replace("skip_bad=True", "--skip-bad")) from error


def require_data(annotations: Path, images: Path, panoptic: list[Path] | None) -> None:
    """Do nothing when a data set's files are there: what is missing is told before torch or a model comes.

    Args:
        annotations: a JSON file.
        images: the folder of its pictures.
        panoptic: the JSON file and the folder of panoptic annotations, if they are used.

    Raises:
        DataError: one of them is not there; all that are not are named.
    """
    files, folders = zip((annotations, images), *([panoptic] if panoptic else []), strict=True)
    missing = [f"{path}: there is no such file" for path in files if not path.is_file()]
    missing += [
        f"{path}: there is no such folder; pictures are looked for there"
        for path in folders
        if not path.is_dir()
    ]
    if missing:
        raise DataError("; ".join(missing))


def panoptic_files(paths: list[Path] | None) -> PanopticFiles | None:
    """The panoptic annotations that a JSON file and a folder are, if they were given."""
    from resnest_zoo.data.panoptic import PanopticFiles

    return None if paths is None else PanopticFiles(*paths)


def default_device() -> str:
    """A GPU if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def seed_everything(seed: int) -> None:
    """Make fresh weights reproducible; the seed -1 leaves them to chance."""
    import torch

    if seed >= 0:
        torch.manual_seed(seed)


def _print_plan(config: Config, data: Dataset, output: Path) -> None:
    solver = config.solver
    epochs = solver.max_iter * solver.ims_per_batch / len(data)
    cosine = solver.lr_scheduler_name == "WarmupCosineLR"
    falls = f"along a cosine to {solver.base_lr_end:g}" if cosine else f"lower from {solver.steps}"
    period = config.test.eval_period
    rows = {
        "pictures": f"{len(data):,}",
        "classes": f"{len(data.categories.things)}: {', '.join(data.categories.things[:8])}"
        + (", …" if len(data.categories.things) > 8 else ""),
        "batch": f"{solver.ims_per_batch} pictures",
        "iterations": f"{solver.max_iter:,}, which is {epochs:.1f} times each picture",
        "learning rate": f"{solver.base_lr:g}, warm-up {solver.warmup_iters}, {falls}",
        "evaluation": (f"every {period} iterations and " if period else "") + "at the end",
        "checkpoints": f"every {solver.checkpoint_period} iterations, in {output}",
    }
    for label, value in rows.items():
        print(f"{label:<14} {value}", file=sys.stdout, flush=True)


def _plot(args: argparse.Namespace) -> int:
    from resnest_zoo.training.curves import draw_curves

    output = args.output or args.run_folder / "curves.png"
    write_staged(output, draw_curves(args.run_folder, output.suffix[1:].lower() or "png"))
    print(output)
    return 0
