"""The command `evaluate`: how good a detector is on annotated pictures of the user's own.

COCO and the packaged models' pictures have `python -m benchmarks.verify`, which also knows the claims.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from resnest_zoo.cli.arguments import add_exact, add_model, add_overrides
from resnest_zoo.cli.common import print_metrics, require_figures, show_warnings
from resnest_zoo.cli.predict_dataset import measure, require_model
from resnest_zoo.cli.train import BY_NAME, default_device, panoptic_files, require_data


def add_commands(commands: Any) -> None:
    """Add the parser of `evaluate`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a detector on your data",
        description="COCO's AP, in percent, of a detector on pictures annotated in COCO's JSON; of panoptic "
        "models also PQ and mIoU.",
    )
    add_model(
        evaluate,
        "of the zoo; also a config, a checkpoint or an exported file",
        "other weights",
        required=False,
    )
    evaluate.add_argument("--json", type=Path, required=True, metavar="FILE", help="annotations")
    evaluate.add_argument("--images", type=Path, metavar="DIR", help="pictures")
    evaluate.add_argument(
        "--predictions",
        metavar="DIR",
        help="in place of a model and pictures: results of predict-dataset on them",
    )
    evaluate.add_argument(
        "--panoptic",
        type=Path,
        nargs=2,
        metavar=("FILE", "DIR"),
        help="panoptic annotations and their PNG files, for panoptic models",
    )
    evaluate.add_argument("--by-name", action="store_true", help=BY_NAME)
    add_exact(evaluate)
    add_overrides(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    require_model(args)
    if args.predictions is not None:
        return measure(args.predictions, args.json)
    from resnest_zoo.api import Predictor
    from resnest_zoo.distributed import join
    from resnest_zoo.runtimes import is_exported
    from resnest_zoo.training.evaluation import evaluate
    from resnest_zoo.training.validation import read_validation_set

    show_warnings()
    require_data(args.json, args.images, args.panoptic)
    with join() as world:
        device = args.device or ("cpu" if is_exported(args.model) else default_device())
        model = Predictor(
            args.model,
            weights=args.weights,
            device=world.device(device),
            overrides=args.overrides,
            exact=args.exact,
        ).model
        panoptic = panoptic_files(args.panoptic)
        data = read_validation_set(args.json, args.images, model, panoptic, world, by_name=args.by_name)
        metrics = evaluate(model, data, world)
        if world.is_main and metrics is not None:
            print_metrics(f"{args.json}: {len(data.pictures):,} pictures", metrics)
    require_figures({args.json: metrics})
    return 0
