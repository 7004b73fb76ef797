"""The command `predict-dataset`: any number of pictures into Parquet files, by many processes or machines."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from resnest_zoo.cli.arguments import CommandParser, add_exact, add_overrides, fraction, names, positive
from resnest_zoo.cli.common import print_metrics, require_figures, show_warnings
from resnest_zoo.cli.predict import model_name
from resnest_zoo.errors import ConfigError

_SOURCE = (
    "folder of pictures, list (.txt), COCO file (.json), WebDataset shards ('shard-{0000..0099}.tar', or a "
    "folder of them); folders and shards also by an address that fsspec knows, such as s3://bucket/folder"
)
_FIGURES = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "APs": "ap_small",
    "APm": "ap_medium",
    "APl": "ap_large",
}


def add_commands(commands: Any) -> None:
    """Add the parser of `predict-dataset`."""
    parser: CommandParser = commands.add_parser(
        "predict-dataset",
        help="detect objects in more pictures than one process can see",
        description="Rows of all pictures, those that fail too, as Parquet files. With RAY_ADDRESS set, the "
        "machines of that cluster of Ray work; else this one. Needs pip install 'resnest-zoo[ray]'.",
    )
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder, or an address that fsspec knows"
    )
    parser.add_argument("-m", "--model", required=True, metavar="NAME", help="which detector")
    parser.add_argument(
        "-w", "--weights", metavar="PATH|URL", help="another checkpoint than the published one"
    )
    parser.add_argument(
        "--images", metavar="DIR", help="pictures of a COCO file; by default in the folder of the file"
    )
    _add_workers(parser)
    parser.add_argument("--resume", action="store_true", help="go on with what is in the folder of --output")
    parser.add_argument(
        "--part-rows", type=positive, default=10_000, metavar="N", help="rows of a file; default 10000"
    )
    parser.add_argument(
        "-t",
        "--score-threshold",
        type=fraction,
        default=0.5,
        metavar="S",
        help="leave out weaker ones, 0-1; default 0.5; to measure AP, 0.05",
    )
    parser.add_argument("--classes", type=names, metavar="A,B,…", help="keep detections of these classes")
    parser.add_argument(
        "--max-detections", type=positive, metavar="N", help="keep no more of a picture, the best"
    )
    parser.add_argument(
        "--class-names", type=names, metavar="A,B,…", help="what the classes of --weights are called"
    )
    add_exact(parser)
    parser.add_argument("--tta", action="store_true", help="several scales and mirror images; slow")
    add_overrides(parser)
    parser.set_defaults(run=_predict_dataset)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes, each with a model; default 1"
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=_amount,
        default=0,
        metavar="G",
        help="default 0, the CPU; 0.5 lets two share a GPU",
    )
    parser.add_argument(
        "--batch",
        type=positive,
        metavar="B",
        help="pictures of one padded size that go through the model together; default 4, on the CPU 1",
    )


def _amount(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from error


def _predict_dataset(args: argparse.Namespace) -> int:
    model_name(args.model)  # a wrong one is told at once
    show_warnings()
    from resnest_zoo.integrations.ray import Workers, predict_dataset

    options: dict[str, Any] = {"score_threshold": args.score_threshold}
    given = {
        "weights": args.weights,
        "classes": args.classes,
        "max_detections": args.max_detections,
        "categories": args.class_names,
        "exact": args.exact,
        "tta": args.tta,
        "overrides": args.overrides,
    }
    options |= {key: value for key, value in given.items() if value}
    with redirect_stdout(sys.stderr):  # where Ray tells of workers that died
        done = predict_dataset(
            args.source,
            args.output,
            args.model,
            options,
            workers=Workers(args.workers, args.gpus_per_worker, args.batch),
            resume=args.resume,
            images=args.images,
            part_rows=args.part_rows,
        )
    earlier = f", {done.before:,} were done before" if done.before else ""
    print(f"{args.output}: {done.written:,} pictures, {done.failed:,} with an error{earlier}")
    return 0


def measure(predictions: str, annotations: Path) -> int:
    """Print AP, in percent, of a folder of results; `evaluate --predictions`."""
    from resnest_zoo.integrations.ray import read_predictions

    show_warnings()
    found = read_predictions(predictions)
    metrics: dict[str, float | None] = {}
    for kind in found.kinds():
        measured = found.evaluate(annotations, kind)
        labels = zip(found.categories.thing_labels, found.categories.thing_ids, strict=True)
        values = {name: getattr(measured, field) for name, field in _FIGURES.items()}
        values |= {f"AP-{name}": measured.per_category.get(number) for name, number in labels}
        metrics |= {
            f"{kind}/{name}": None if value is None else 100 * value for name, value in values.items()
        }
    print_metrics(f"{annotations}: {len(found):,} pictures of {predictions}", metrics)
    require_figures({annotations: metrics})
    return 0


def require_model(args: argparse.Namespace) -> None:
    """Say what `evaluate` needs besides annotations.

    Raises:
        ConfigError: neither a model and pictures nor results, or both.
    """
    if args.predictions is None and (args.model is None or args.images is None):
        raise ConfigError("expected --model and --images, or --predictions with results to measure")
    if args.predictions is not None and (args.model or args.images or args.panoptic):
        raise ConfigError(
            "--predictions are measured as they are: leave --model, --images and --panoptic out"
        )
