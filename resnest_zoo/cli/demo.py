"""The command `demo`: the whole chain on one machine, without a network or data.

It draws pictures of shapes that no model has seen, detects with the packaged panoptic model, holds the result
against the truth, and writes a picture of it all.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.cli.arguments import positive
from resnest_zoo.errors import ConfigError
from resnest_zoo.hub.staging import write_staged

if TYPE_CHECKING:
    from PIL import Image

    from resnest_zoo.data.shapes import Scene
    from resnest_zoo.models import GeneralizedRCNN
    from resnest_zoo.structures import Instances

MODEL = "panoptic_resnest14_dcn_shapes"
_SPLIT = "demo"
_SHOWN = 3  # pictures in the contact sheet, all of one size
_SHOWN_SIZE = 138, 184  # (height, width)
_ENLARGED = 1.5  # so that a row of three is as wide as a page, and letters stay as they are drawn
_GAP = 6
_SHOWN_SCORE = 0.5


def add_commands(commands: Any) -> None:
    """Add the parser of `demo`."""
    demo = commands.add_parser("demo", help="draw pictures, detect, and show how well; needs no network")
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo.png"),
        metavar="FILE",
        help="picture to write; default demo.png",
    )
    demo.add_argument(
        "--count", type=positive, default=50, metavar="N", help="of pictures to draw; default 50"
    )
    demo.add_argument("--seed", type=positive, default=2, metavar="N", help="of the pictures; default 2")
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    if args.output.is_dir():
        raise ConfigError(f"--output {args.output}: is a folder; name the picture, as {args.output}/demo.png")
    if not args.output.absolute().parent.is_dir():  # better now than at the end
        raise ConfigError(f"--output {args.output}: no such folder")
    import torch

    from resnest_zoo.api import get
    from resnest_zoo.data import shapes
    from resnest_zoo.inference.visualize import encode_picture

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = get(MODEL, device=device)
    scenes = [shapes.draw(args.seed, index) for index in range(args.count)]
    print(f"{args.count} pictures drawn by seed {args.seed}; {MODEL} looks for shapes on {device}")
    found = [_detect(model, scene) for scene in _with_bar(scenes)]
    print("\n".join(_table(scenes, found, args.seed)))
    even = (shapes.draw(args.seed, index, size=_SHOWN_SIZE) for index in range(min(args.count, _SHOWN)))
    shown = [_show(model, scene) for scene in even]
    write_staged(args.output, encode_picture(_sheet(shown), "PNG"))
    print(f"drawn, detected, segmented: {args.output}")
    return 0


def _with_bar(scenes: list[Scene]) -> Any:
    from tqdm import tqdm

    return tqdm(scenes, desc="detect", unit="picture", disable=None)


def _detect(model: GeneralizedRCNN, scene: Scene, size: tuple[int, int] | None = None) -> Instances:
    import torch

    picture = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
    (found,) = model([picture], output_sizes=None if size is None else [size])
    result: Instances = found.to("cpu")
    return result


def _table(scenes: list[Scene], found: list[Instances], seed: int) -> list[str]:
    """Lines with what is there, what was found, and AP of each class; then the means."""
    from resnest_zoo.data import shapes
    from resnest_zoo.evaluation.detection import evaluate_detections
    from resnest_zoo.evaluation.results import detection_rows

    rows = [row for index, result in enumerate(found) for row in detection_rows(result, index + 1)]
    with tempfile.TemporaryDirectory() as folder:
        shapes.write(folder + "/shapes", count=len(scenes), seed=seed, split=_SPLIT)
        truth = Path(folder, "shapes", "annotations", f"instances_{_SPLIT}.json")
        box, mask = (evaluate_detections(truth, rows, kind) for kind in ("bbox", "segm"))
    lines = [f"{'class':<10}{'there':>7}{'found':>7}{'box AP':>9}{'mask AP':>9}"]
    names = shapes.CATEGORIES.things
    for index, (name, category_id) in enumerate(zip(names, shapes.CATEGORIES.thing_ids, strict=True)):
        there = sum(s.class_index == index and not s.is_crowd for scene in scenes for s in scene.things)
        seen = sum(int(((r.classes == index) & (r.scores >= _SHOWN_SCORE)).sum()) for r in found)
        numbers = (metrics.per_category[category_id] for metrics in (box, mask))
        lines.append(f"{name:<10}{there:>7}{seen:>7}" + "".join(f"{_percent(n):>9}" for n in numbers))
    lines.append(f"{'all':<24}{_percent(box.ap):>9}{_percent(mask.ap):>9}")
    lines.append(f"panoptic quality {_percent(_panoptic_quality(scenes, found))}; found: score at least 0.5")
    return lines


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _panoptic_quality(scenes: list[Scene], found: list[Instances]) -> float:
    from resnest_zoo.annotations.tables import SegmentInfo
    from resnest_zoo.data.shapes import CATEGORIES
    from resnest_zoo.evaluation.panoptic import match_segments, panoptic_quality
    from resnest_zoo.evaluation.segments import SegmentMap

    records = []
    for index, (scene, result) in enumerate(zip(scenes, found, strict=True)):
        segments = (
            SegmentInfo(number, s.category_id, s.is_crowd) for number, s in enumerate(scene.segments, start=1)
        )
        truth = SegmentMap(index, scene.segment_map, tuple(segments))
        assert result.panoptic is not None
        seen = SegmentMap.from_result(index, result.panoptic, CATEGORIES)
        records.append(match_segments(truth, seen, CATEGORIES))
    return panoptic_quality(records, CATEGORIES).all.pq


def _show(model: GeneralizedRCNN, scene: Scene) -> list[Image.Image]:
    """The picture, its detections and its segments, enlarged."""
    from PIL import Image

    from resnest_zoo.inference.visualize import Style, draw_instances, draw_panoptic

    height, width = (round(_ENLARGED * side) for side in scene.image.shape[:2])
    picture = Image.fromarray(scene.image).resize((width, height), Image.Resampling.BICUBIC)
    found = _detect(model, scene, (height, width)).above(_SHOWN_SCORE)
    return [picture, draw_instances(picture, found), draw_panoptic(picture, found, Style(scores=False))]


def _sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """A grid of views, all of one size: a picture's beside each other, pictures under each other."""
    from PIL import Image

    width, height = (side + _GAP for side in rows[0][0].size)
    sheet = Image.new("RGB", (len(rows[0]) * width - _GAP, len(rows) * height - _GAP), "white")
    for line, views in enumerate(rows):
        for column, view in enumerate(views):
            sheet.paste(view, (column * width, line * height))
    return sheet
