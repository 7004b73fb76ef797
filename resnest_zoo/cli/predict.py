"""The command `predict`: pictures in, drawings and COCO JSON out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.common import memory_problem, report, show_warnings
from resnest_zoo.errors import ConfigError, ImageError, UnknownModelError, shown
from resnest_zoo.hub.staging import staged
from resnest_zoo.registry import info

if TYPE_CHECKING:
    from resnest_zoo.inference import PicturePredictor, Prediction

_PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_JPEG_SIDE = 65500  # as Pillow writes it


def add_command(commands: Any) -> None:
    """Add the parser of `predict`."""
    predict = commands.add_parser("predict", help="detect objects in pictures")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="picture, or folder of pictures")
    predict.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="which detector; see `resnest-zoo list`. Or a checkpoint that `resnest-zoo train` wrote",
    )
    predict.add_argument("--weights", metavar="PATH|URL", help="another checkpoint than the published one")
    predict.add_argument(
        "--classes",
        type=lambda text: [name.strip() for name in text.split(",")],
        metavar="A,B,…",
        help="names of the classes, if they are not the published ones",
    )
    predict.add_argument(
        "--output", type=Path, metavar="DIR", help="write drawn pictures and predictions.json there"
    )
    predict.add_argument("--json", action="store_true", help="print what predictions.json holds")
    predict.add_argument("--device", help="such as cpu or cuda:1; by default a GPU if there is one")
    predict.add_argument(
        "--score-threshold",
        type=_fraction,
        default=0.5,
        metavar="S",
        help="leave out weaker ones, 0-1; default 0.5",
    )
    predict.add_argument("--tta", action="store_true", help="several scales and mirror images; slow")
    predict.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="override a key of the config, such as TEST.DETECTIONS_PER_IMAGE 300",
    )
    predict.set_defaults(run=_predict)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN neither
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {shown(text)}")
    return value


def _predict(args: argparse.Namespace) -> int:
    name = _model_name(args.model)
    paths = _find_pictures(args.images)
    missing = [path for path in paths if not path.exists()]  # told before a model is fetched
    failed = sum(report(f"{path}: no such file") for path in missing)
    if len(missing) == len(paths):
        return 1
    image_ids = _image_ids(paths)
    targets = _drawing_paths(paths, image_ids, args.output)
    work = [row for row in zip(image_ids, paths, targets, strict=True) if row[1] not in missing]
    show_warnings()
    from resnest_zoo.api import Predictor

    predictor = Predictor(
        args.model,
        score_threshold=args.score_threshold,
        tta=args.tta,
        device=args.device,
        weights=args.weights,
        categories=args.classes,
        overrides=[item for pair in args.set for item in pair],
    )
    if args.tta and predictor.model.categories.stuff:
        print("note: with --tta there is no panoptic map", file=sys.stderr)
    document = _Document(name, args.score_threshold, predictor.model.categories, args.output)
    try:
        failed += _predict_all(predictor, work, document, args.json)
    finally:
        document.finish(print_it=args.json)  # of an interrupted run, what is done
    return min(failed, 1)


def _predict_all(
    predictor: PicturePredictor, work: list[tuple[int, Path, Path | None]], document: _Document, quiet: bool
) -> int:
    """Predict, draw and record picture after picture; returns the number of failures."""
    from tqdm import tqdm

    failed = 0
    # Without a terminal the bar stays away, and the lines below tell how far it is.
    bar = tqdm(work, desc="predict", unit="image", disable=None if len(work) > 1 else True)
    for image_id, path, target in bar:
        try:
            prediction = predictor(path)
        except ImageError as error:
            failed += _report_beside(bar, str(error))
            continue
        except (MemoryError, RuntimeError) as error:
            if not (problem := memory_problem(error)):
                raise
            failed += _report_beside(bar, f"{path}: {problem}")
            continue
        if not quiet:
            with bar.external_write_mode(sys.stdout):
                print(f"{path}: {_summary(prediction)}", flush=True)
        document.add(image_id, path, prediction)
        if target is not None and max(prediction.instances.image_size) > _JPEG_SIDE:
            failed += _report_beside(bar, f"{path}: not drawn: a JPEG has at most {_JPEG_SIDE} pixels a side")
        elif target is not None:
            with staged(target) as part:
                # Without subsampling, which would blur lines and letters.
                prediction.plot().save(part, format="JPEG", quality=92, subsampling=0)
    return failed


def _report_beside(bar: Any, problem: str) -> int:
    with bar.external_write_mode(sys.stderr):
        return report(problem)


def _model_name(model: str) -> str:
    """The name of a model, or the path of a config file or of a checkpoint of `train`.

    A wrong one is told before torch is loaded.
    """
    try:
        return info(model).name
    except UnknownModelError:
        if not model.lower().endswith((".yaml", ".yml", ".safetensors")):
            raise
        return model


def _find_pictures(arguments: list[str]) -> list[Path]:
    """Files as named; of a folder all pictures in it, sorted."""
    paths: list[Path] = []
    for argument in arguments:
        path = Path(os.path.expanduser(argument))
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in _PICTURE_SUFFIXES)
            if not inside:
                raise ImageError(f"{path}: no pictures in this folder")
            paths += inside
        else:
            paths.append(path)
    return paths


def _drawing_paths(paths: list[Path], image_ids: list[int], output: Path | None) -> list[Path | None]:
    """Where each drawn picture goes: the picture's name, numbered where two are the same.

    Raises:
        ConfigError: a drawing, or the map of segments beside it, would overwrite one of the pictures.
    """
    if output is None:
        return [None] * len(paths)
    output.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    sources = {path.resolve() for path in paths}
    targets: list[Path | None] = []
    for path, image_id in zip(paths, image_ids, strict=True):
        names = (f"{path.stem}{'' if n == 1 else f'-{n}'}.jpg" for n in range(1, len(paths) + 1))
        name = next(name for name in names if name.lower() not in taken)  # some disks ignore case
        taken.add(name.lower())
        for written in (output / name, output / _panoptic_name(image_id)):
            if written.resolve() in sources:
                raise ConfigError(f"--output {output}: what is drawn of {path} would overwrite {written}")
        targets.append(output / name)
    return targets


def _panoptic_name(image_id: int) -> str:
    return f"{image_id}_panoptic.png"


def _image_ids(paths: list[Path]) -> list[int]:
    """COCO's ids where the file names are those, else the place in the list, from 1."""
    if all(path.stem.isdecimal() for path in paths):
        ids = [int(path.stem) for path in paths]
        if len(set(ids)) == len(ids):
            return ids
    return list(range(1, len(paths) + 1))


def _summary(prediction: Prediction) -> str:
    """What was found, most frequent first: "3 person, 1 dog"; of a panoptic map the segments."""
    from collections import Counter

    instances = prediction.instances
    names = instances.names
    if instances.panoptic is not None:
        categories = instances.categories
        names = [
            (categories.things if s.is_thing else categories.stuff)[s.class_index]
            for s in instances.panoptic.segments
        ]
    found = Counter(names).most_common()
    return ", ".join(f"{count} {name}" for name, count in found) or "nothing found"


class _Document:
    """What `predict` found, as one JSON document; panoptic maps beside it as PNG."""

    def __init__(self, model: str, score_threshold: float, categories: Any, output: Path | None) -> None:
        self.output = output
        names = zip(categories.thing_ids, categories.things, strict=True)
        self.content: dict[str, Any] = {
            "model": model,
            "score_threshold": score_threshold,
            "categories": [{"id": number, "name": name} for number, name in names],
            "images": [],
            "predictions": [],
        }
        if categories.stuff:
            stuff = list(zip(categories.stuff_ids, categories.stuff, strict=True))[1:]
            self.content["stuff_categories"] = [{"id": number, "name": name} for number, name in stuff]
            self.content["panoptic"] = []

    def add(self, image_id: int, path: Path, prediction: Prediction) -> None:
        height, width = prediction.instances.image_size
        row = {"id": image_id, "file_name": str(path), "width": width, "height": height}
        self.content["images"].append(row)
        self.content["predictions"] += prediction.to_coco(image_id)
        if prediction.instances.panoptic is not None:
            annotation, ids = prediction.to_coco_panoptic(image_id)
            name = _panoptic_name(image_id)
            self.content["panoptic"].append({**annotation, "file_name": name})
            if self.output is not None:
                with staged(self.output / name) as part:
                    ids.save(part, format="PNG")

    def finish(self, *, print_it: bool) -> None:
        if print_it:
            print(json.dumps(self.content))
        if self.output is not None:
            with staged(self.output / "predictions.json") as part:
                part.write_text(json.dumps(self.content), encoding="utf-8")
