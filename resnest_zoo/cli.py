"""The command `resnest-zoo`: list, info, download, predict.

Exit codes: 0 all went well, 1 something failed and was reported, 2 wrong usage, 130 interrupted.
torch is loaded by `predict` alone.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo import __version__
from resnest_zoo.errors import ConfigError, ImageError, ZooError
from resnest_zoo.hub.cache import staged
from resnest_zoo.registry import TASKS, Entry, info, list_models

if TYPE_CHECKING:
    from resnest_zoo.inference import Prediction

_PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_JPEG_SIDE = 65500  # as Pillow writes it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ZooError, OSError) as error:
        return _report(error)
    return code


def _report(error: Exception | str) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resnest-zoo", description="ResNeSt and ResNet COCO detectors by name."
    )
    parser.add_argument("--version", action="version", version=f"resnest-zoo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="list the models")
    listing.add_argument("pattern", nargs="?", default="*", help="such as 'mask_*'")
    listing.add_argument("--task", choices=TASKS, help="only models of this task")
    listing.add_argument("--backbones", action="store_true", help="also the ImageNet backbones")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)

    describe = commands.add_parser("info", help="show what is known about a model")
    describe.add_argument("name", help="name, alias or published file name")
    describe.add_argument("--json", action="store_true", help="print JSON")
    describe.set_defaults(run=_info)

    download = commands.add_parser("download", help="bring checkpoints into the cache and verify them")
    which = download.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="name or alias")
    which.add_argument("--all", action="store_true", help="all detectors")
    download.set_defaults(run=_download)

    _add_predict(commands.add_parser("predict", help="detect objects in pictures"))
    return parser


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="picture, or folder of pictures")
    predict.add_argument(
        "--model", required=True, metavar="NAME", help="which detector; see `resnest-zoo list`"
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
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def _list(args: argparse.Namespace) -> int:
    entries = [info(name) for name in list_models(args.pattern, task=args.task, backbones=args.backbones)]
    if args.json:
        print(json.dumps([_describe(entry) for entry in entries], indent=2))
        return 0
    if not entries:
        raise ZooError(f"no model matches {args.pattern!r}; `resnest-zoo list` shows all")
    header = ("name", "method", "backbone", "box AP", "mask AP", "PQ", "params", "known SHA-256")
    rows = [header, *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nAP and PQ as reported on COCO val2017, in percent.")
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    # As the line below the table says; other results are for `info`.
    rows = (row for row in entry.reported if (row.dataset, row.split) == ("COCO", "val2017") and not row.tta)
    reported = next(rows, None)
    numbers = (reported.box, reported.mask, reported.pq) if reported else (None, None, None)
    shown = ("" if number is None else f"{number:.2f}" for number in numbers)
    millions = f"{entry.parameters / 1e6:.0f} M" if entry.parameters else ""
    return (
        entry.name,
        entry.method or entry.task,
        entry.backbone,
        *shown,
        millions,
        _known_hash(entry),
    )


def _known_hash(entry: Entry) -> str:
    digits = entry.artifact.expected_sha256
    if digits is None:
        return "none"
    return "full" if len(digits) == 64 else f"{digits}…"


def _hash_in_words(entry: Entry) -> str:
    digits = entry.artifact.expected_sha256
    if digits is None:
        return "none published: the bytes cannot be verified"
    return digits if len(digits) == 64 else f"begins with {digits}, which is all that is published of it"


def _info(args: argparse.Namespace) -> int:
    entry = info(args.name)
    if args.json:
        print(json.dumps(_describe(entry), indent=2))
        return 0
    artifact = entry.artifact
    fields = {
        "name": entry.name,
        "task": entry.task,
        "method": entry.method,
        "backbone": entry.backbone,
        "parameters": f"{entry.parameters:,}" if entry.parameters else "",
        "classes": len(entry.categories.things) if entry.categories else "",
        "config": entry.config or "",
        "file": artifact.path or artifact.filename,
        "SHA-256": _hash_in_words(entry),
        "size": f"{artifact.size:,} bytes" if artifact.size else "",
        "URL": "\n".join(artifact.urls),
        "reported": "\n".join(map(str, entry.reported)),
        "log": entry.log_url or "",
        "starts from": entry.pretrained_from or "",
        "licence": entry.licence,
        "source": entry.source or "",
        "also called": "\n".join(entry.aliases),
    }
    for label, value in fields.items():
        for index, line in enumerate(str(value).splitlines()):
            print(f"{label if index == 0 else '':<12} {line}")
    return 0


def _describe(entry: Entry) -> dict[str, Any]:
    from dataclasses import asdict

    described = asdict(entry)
    if entry.artifact.path is not None:
        described["artifact"]["path"] = str(entry.artifact.path)
    return described


def _download(args: argparse.Namespace) -> int:
    from resnest_zoo.hub import fetch

    _show_warnings()
    failed = 0
    entries = [info(name) for name in (list_models() if args.all else args.names)]
    for entry in entries:
        try:
            print(f"{entry.name}  {fetch(entry.artifact, progress=None)}", flush=True)
        except ZooError as error:
            failed += _report(error)
    return min(failed, 1)


def _predict(args: argparse.Namespace) -> int:
    entry = info(args.model)  # a wrong name is told before torch is loaded
    paths = _find_pictures(args.images)
    image_ids = _image_ids(paths)
    targets = _drawing_paths(paths, image_ids, args.output)
    _show_warnings()
    from tqdm import tqdm

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
    document = _Document(entry.name, args.score_threshold, predictor.model.categories, args.output)
    failed = 0
    # Without a terminal the bar stays away, and the lines below tell how far it is.
    bar = tqdm(paths, desc="predict", unit="image", disable=None if len(paths) > 1 else True)
    for image_id, path, target in zip(image_ids, bar, targets, strict=True):
        try:
            prediction = predictor(path)
        except ImageError as error:
            with bar.external_write_mode(sys.stderr):
                failed += _report(error)
            continue
        if not args.json:
            with bar.external_write_mode(sys.stdout):
                print(f"{path}: {_summary(prediction)}", flush=True)
        document.add(image_id, path, prediction)
        if target is not None and max(prediction.instances.image_size) > _JPEG_SIDE:
            with bar.external_write_mode(sys.stderr):
                failed += _report(f"{path}: not drawn: a JPEG has at most {_JPEG_SIDE} pixels a side")
        elif target is not None:
            with staged(target) as part:
                # Without subsampling, which would blur lines and letters.
                prediction.plot().save(part, format="JPEG", quality=92, subsampling=0)
    document.finish(print_it=args.json)
    return min(failed, 1)


def _find_pictures(arguments: list[str]) -> list[Path]:
    """Files as named; of a folder all pictures in it, sorted."""
    paths: list[Path] = []
    for argument in arguments:
        path = Path(argument).expanduser()
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


def _show_warnings() -> None:
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


if __name__ == "__main__":
    sys.exit(main())
