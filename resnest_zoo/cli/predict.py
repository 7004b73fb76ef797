"""The command `predict`: pictures in, drawings and COCO JSON out."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.arguments import add_exact, add_model, add_overrides, fraction, names, positive
from resnest_zoo.cli.batch import Batch
from resnest_zoo.cli.common import show_warnings, sole_run
from resnest_zoo.cli.drawing import add_drawing, drawing_of
from resnest_zoo.cli.inputs import find_inputs
from resnest_zoo.cli.predictions import Named, Record, describe_run, name_pictures
from resnest_zoo.errors import ConfigError, ExportError, UnknownModelError, shown
from resnest_zoo.hub.staging import remove_staged
from resnest_zoo.recognition import EXPORTED
from resnest_zoo.registry import info

if TYPE_CHECKING:
    from resnest_zoo.inference import PicturePredictor

_INPUTS = (
    "picture, folder of pictures, pattern such as 'shots/*.png', list of pictures (.txt, one a line), "
    "http(s) address, or - for standard input; also a film, camera:0, or the address of a stream (rtsp)"
)


def add_commands(commands: Any) -> None:
    """Add the parser of `predict`."""
    predict = commands.add_parser("predict", help="detect objects in pictures")
    predict.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUTS)
    predict.add_argument(
        "-r", "--recursive", action="store_true", help="also pictures in the folders of folders"
    )
    predict.add_argument(
        "--frames",
        choices=("first", "all"),
        default="first",
        help="of an animation, or a file of several pages; default: first",
    )
    predict.add_argument(
        "--every", type=positive, default=1, metavar="N", help="each Nth frame of films and animations alone"
    )
    add_model(
        predict,
        "which detector; see `resnest-zoo list`. Or a checkpoint that `resnest-zoo train` wrote, or a file "
        "of `resnest-zoo export`",
        "another checkpoint than the published one",
    )
    predict.add_argument(
        "--classes", type=names, metavar="A,B,…", help="keep detections of these classes alone"
    )
    predict.add_argument(
        "--max-detections", type=positive, metavar="N", help="keep no more of a picture, the best"
    )
    predict.add_argument(
        "--class-names",
        type=names,
        metavar="A,B,…",
        help="what the classes of --weights are called, in order, if not as the published ones",
    )
    predict.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write drawn pictures and predictions.json there"
    )
    predict.add_argument(
        "--resume", action="store_true", help="go on with the results in the folder of --output"
    )
    predict.add_argument("--json", action="store_true", help="print what predictions.json holds")
    predict.add_argument(
        "-t",
        "--score-threshold",
        type=fraction,
        default=0.5,
        metavar="S",
        help="leave out weaker ones, 0-1; default 0.5",
    )
    add_exact(predict)
    predict.add_argument("--tta", action="store_true", help="several scales and mirror images; slow")
    add_drawing(predict)
    add_overrides(predict)
    predict.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    name = model_name(args.model)
    if args.resume and args.output is None:
        raise ConfigError("--resume goes on with the results in a folder: name it by --output")
    drawing = drawing_of(args)
    # What is not there is told before a model is fetched.
    inputs, failed = find_inputs(args.inputs, recursive=args.recursive)
    if not inputs:
        return 1
    show_warnings()
    with ExitStack() as stack:
        if args.output is not None:
            stack.enter_context(sole_run(args.output))
            remove_staged(args.output)  # what a killed run has left half written
        record = stack.enter_context(Record(args.output, resume=args.resume))
        pictures = name_pictures(inputs, record.known)
        if args.output is not None:
            _check_targets(pictures, args.output, is_new=record.is_new)
        predictor = _build(args)
        _require_trained(predictor)
        if args.tta and predictor.model.categories.stuff:
            print("note: with --tta there is no panoptic map", file=sys.stderr)
        kept = ("classes", "max_detections", "tta", "frames", "every", "overrides")
        options = {key: getattr(args, key) for key in kept}
        if drawing:
            options["drawing"] = drawing
        record.begin(describe_run(name, predictor, options))
        work = [picture for picture in pictures if picture.input.key not in record.done]
        if len(work) < len(pictures):
            print(f"{len(pictures) - len(work)} of {len(pictures)} pictures are done", file=sys.stderr)
        batch = Batch(
            predictor,
            record,
            quiet=args.json,
            all_frames=args.frames == "all",
            every=args.every,
            drawing=drawing,
        )
        try:
            batch.run(work)
        finally:
            if args.json:  # of an interrupted run, what is done
                for piece in record.document():
                    print(piece, end="")
                print()
    return min(failed + batch.failed, 1)


def _build(args: argparse.Namespace) -> PicturePredictor:
    from resnest_zoo.api import Predictor

    try:
        return Predictor(
            args.model,
            score_threshold=args.score_threshold,
            classes=args.classes,
            max_detections=args.max_detections,
            tta=args.tta,
            device=args.device,
            weights=args.weights,
            categories=args.class_names,
            overrides=args.overrides,
            exact=args.exact,
        )
    except ConfigError as error:
        if args.classes is None or not str(error).startswith("classes: "):
            raise
        raise ConfigError(
            f"--{error}; to say what the classes of a checkpoint are called, write --class-names"
        ) from error


def _require_trained(predictor: PicturePredictor) -> None:
    """Refuse a model whose class layers are fresh: what it would find means nothing.

    Raises:
        ConfigError: it has some.
    """
    if fresh := predictor.model.fresh_layers:
        count = len(predictor.model.categories.things)
        raise ConfigError(
            f"--class-names: {count} classes, but the checkpoint has another number, and what layers that "
            f"nobody trained find ({', '.join(fresh)}) means nothing: name the checkpoint's classes in their "
            "order, or train a model of your own by `resnest-zoo train`"
        )


def model_name(model: str) -> str:
    """The name of a model, or the path of a config file, of a checkpoint of `train` or of a folder of one
    model, or the address of either.

    A wrong one is told before torch is loaded.
    """
    try:
        return info(model).name
    except UnknownModelError as error:
        path = os.path.expanduser(model)
        inside = os.path.join(path, "model.safetensors")  # noqa: PTH118
        is_file = os.path.isfile(path) or os.path.isfile(inside)  # noqa: PTH113  # which never raises
        if is_file or "://" in model or model.lower().endswith((".yaml", ".yml", ".safetensors")):
            return model
        if model.lower().endswith(tuple(EXPORTED.values())):
            raise ExportError(f"{model}: no such file; `resnest-zoo export` writes one") from error
        if model.lower().endswith((".pth", ".pt", ".pkl", ".bin")):
            raise UnknownModelError(
                f"{error} Nor is there a file {shown(model)}; a checkpoint that does not tell its model is "
                "given as --model NAME --weights FILE"
            ) from error
        raise


def _check_targets(pictures: list[Named], output: Path, *, is_new: bool) -> None:
    """Refuse to write over what is no result of this run.

    Raises:
        ConfigError: a drawing, or the map of segments beside it, would overwrite one of the pictures or, in a
            folder without a record, any file.
    """
    folder = os.path.realpath(output)
    sources = {os.path.realpath(picture.input.name) for picture in pictures}
    there = {path.name for path in output.iterdir()} if is_new else set()
    for picture in pictures:
        for name in picture.films or (picture.drawing, picture.panoptic):
            if os.path.join(folder, name) in sources:  # noqa: PTH118  # of many paths, for speed
                raise ConfigError(
                    f"--output {output}: what is drawn of {picture.input} would overwrite {output / name}"
                )
            if name in there:
                raise ConfigError(
                    f"--output {output}: holds {name} already, and no record of a run that it is of; choose "
                    "another folder, or remove it"
                )
