"""The command `predict`: pictures in, drawings and COCO JSON out."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.arguments import add_model, add_overrides, fraction, names
from resnest_zoo.cli.common import memory_problem, report, show_warnings, sole_run
from resnest_zoo.cli.predictions import Named, Record, describe_run, name_pictures
from resnest_zoo.data.file_names import check_file, expand
from resnest_zoo.errors import ConfigError, ImageError, UnknownModelError, shown
from resnest_zoo.hub.staging import remove_staged, write_staged
from resnest_zoo.registry import info

if TYPE_CHECKING:
    from resnest_zoo.inference import PicturePredictor, Prediction

_PICTURE_SUFFIXES = re.compile(
    r"\.(avif|bmp|gif|hei[cf]|jfif|jp2|jpe?g|mpo|pgm|png|ppm|tiff?|webp)", re.IGNORECASE
)
_JPEG_SIDE = 65500  # as Pillow writes it
_BAD_NAME = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG)  # what the output's disk cannot call a file


def add_commands(commands: Any) -> None:
    """Add the parser of `predict`."""
    predict = commands.add_parser("predict", help="detect objects in pictures")
    predict.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, or folder of pictures")
    add_model(
        predict,
        "which detector; see `resnest-zoo list`. Or a checkpoint that `resnest-zoo train` wrote",
        "another checkpoint than the published one",
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
    predict.add_argument("--tta", action="store_true", help="several scales and mirror images; slow")
    add_overrides(predict)
    predict.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    name = _model_name(args.model)
    if args.resume and args.output is None:
        raise ConfigError("--resume goes on with the results in a folder: name it by --output")
    paths, failed = _find_pictures(args.inputs)  # what is not there is told before a model is fetched
    if not paths:
        return 1
    show_warnings()
    with ExitStack() as stack:
        if args.output is not None:
            stack.enter_context(sole_run(args.output))
            remove_staged(args.output)  # what a killed run has left half written
        record = stack.enter_context(Record(args.output, resume=args.resume))
        pictures = name_pictures(paths, record.done)
        if args.output is not None:
            _check_targets(pictures, args.output, is_new=record.is_new)
        from resnest_zoo.api import Predictor

        predictor = Predictor(
            args.model,
            score_threshold=args.score_threshold,
            tta=args.tta,
            device=args.device,
            weights=args.weights,
            categories=args.class_names,
            overrides=args.overrides,
        )
        _require_trained(predictor)
        if args.tta and predictor.model.categories.stuff:
            print("note: with --tta there is no panoptic map", file=sys.stderr)
        record.begin(describe_run(name, predictor, tta=args.tta, overrides=args.overrides))
        work = [picture for picture in pictures if str(picture.path) not in record.done]
        if len(work) < len(pictures):
            print(f"{len(pictures) - len(work)} of {len(pictures)} pictures are done", file=sys.stderr)
        try:
            failed += _predict_all(predictor, work, record, args.json)
        finally:
            if args.json:  # of an interrupted run, what is done
                for piece in record.document():
                    print(piece, end="")
                print()
    return min(failed, 1)


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


def _predict_all(predictor: PicturePredictor, work: list[Named], record: Record, quiet: bool) -> int:
    """Predict, draw and record picture after picture; returns the number of failures."""
    from tqdm import tqdm

    failed = 0
    # Without a terminal the bar stays away, and the lines below tell how far it is.
    bar = tqdm(work, desc="predict", unit="image", disable=None if len(work) > 1 else True)
    for picture in bar:
        try:
            prediction = predictor(picture.path)
        except ImageError as error:
            failed += _report_beside(bar, str(error))
            continue
        except (MemoryError, RuntimeError) as error:
            if not (problem := memory_problem(error)):
                raise
            failed += _report_beside(bar, f"{picture.path}: {problem}")
            continue
        if not quiet:
            with bar.external_write_mode(sys.stdout):
                print(f"{picture.path}: {_summary(prediction)}", flush=True)
        try:
            if problem := _keep(picture, prediction, record):
                failed += _report_beside(bar, f"{picture.path}: {problem}")
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            failed += _report_beside(bar, f"{picture.path}: not kept: {error}")
    return failed


def _keep(picture: Named, prediction: Prediction, record: Record) -> str:
    """Write what was found, its line in the record last; returns what went wrong with the drawing.

    Raises:
        OSError: a file cannot be written; the message names it.
    """
    problem = ""
    if record.output is not None:
        from resnest_zoo.inference.visualize import encode_picture

        if prediction.instances.panoptic is not None:
            _, ids = prediction.to_coco_panoptic(picture.image_id)
            write_staged(record.output / picture.panoptic, encode_picture(ids, "PNG"))
        if max(prediction.instances.image_size) > _JPEG_SIDE:
            problem = f"not drawn: a JPEG has at most {_JPEG_SIDE} pixels a side"
        else:
            # Without subsampling, which would blur lines and letters.
            drawing = encode_picture(prediction.plot(), "JPEG", quality=92, subsampling=0)
            write_staged(record.output / picture.drawing, drawing)
    record.add(picture, prediction)
    return problem


def _report_beside(bar: Any, problem: str) -> int:
    with bar.external_write_mode(sys.stderr):
        return report(problem)


def _model_name(model: str) -> str:
    """The name of a model, or the path of a config file or of a checkpoint of `train`.

    A wrong one is told before torch is loaded.
    """
    try:
        return info(model).name
    except UnknownModelError as error:
        is_file = os.path.isfile(os.path.expanduser(model))  # noqa: PTH113  # which never raises
        if is_file or model.lower().endswith((".yaml", ".yml", ".safetensors")):
            return model
        if model.lower().endswith((".pth", ".pt", ".pkl", ".bin")):
            raise UnknownModelError(
                f"{error} Nor is there a file {shown(model)}; a checkpoint that does not tell its model is "
                "given as --model NAME --weights FILE"
            ) from error
        raise


def _find_pictures(arguments: list[str]) -> tuple[list[Path], int]:
    """Files as named, of a folder all pictures in it, sorted; each once. And how many cannot be used."""
    found: dict[Path, None] = {}
    failed = 0
    for argument in arguments:
        try:
            if not argument:  # an unset variable of a shell; as a path it would be the current folder
                raise ImageError("a picture's name is empty")
            paths = _pictures_of(Path(argument))
        except ImageError as error:
            failed += report(error)
            continue
        for path in paths:
            try:
                found[check_file(path)] = None
            except ImageError as error:
                failed += report(error)
    return list(found), failed


def _pictures_of(path: Path) -> list[Path]:
    folder = expand(path)
    if not os.path.isdir(folder):  # noqa: PTH112  # which never raises
        return [path]
    try:
        inside = sorted(p for p in folder.iterdir() if _PICTURE_SUFFIXES.fullmatch(p.suffix))
    except OSError as error:
        raise ImageError(f"{path}: cannot be listed: {error.strerror or error}") from error
    if not inside:
        raise ImageError(f"{path}: no pictures in this folder")
    return inside


def _check_targets(pictures: list[Named], output: Path, *, is_new: bool) -> None:
    """Refuse to write over what is no result of this run.

    Raises:
        ConfigError: a drawing, or the map of segments beside it, would overwrite one of the pictures or, in a
            folder without a record, any file.
    """
    folder = os.path.realpath(output)
    sources = {os.path.realpath(picture.path) for picture in pictures}
    there = {path.name for path in output.iterdir()} if is_new else set()
    for picture in pictures:
        for name in (picture.drawing, picture.panoptic):
            if os.path.join(folder, name) in sources:  # noqa: PTH118  # of many paths, for speed
                raise ConfigError(
                    f"--output {output}: what is drawn of {picture.path} would overwrite {output / name}"
                )
            if name in there:
                raise ConfigError(
                    f"--output {output}: holds {name} already, and no record of a run that it is of; choose "
                    "another folder, or remove it"
                )


def _summary(prediction: Prediction) -> str:
    """What was found, most frequent first: "3 person, 1 dog"; of a panoptic map the segments."""
    from collections import Counter

    instances = prediction.instances
    names_found = instances.names
    if instances.panoptic is not None:
        categories = instances.categories
        names_found = [
            (categories.things if s.is_thing else categories.stuff)[s.class_index]
            for s in instances.panoptic.segments
        ]
    found = Counter(names_found).most_common()
    return ", ".join(f"{count} {name}" for name, count in found) or "nothing found"
