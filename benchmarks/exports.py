"""Every published detector in every format of file: whether it finds the same, and how fast.

    python -m benchmarks.exports --size 256 320 --record          # all 21, in all formats
    python -m benchmarks.exports 'mask_*' --formats onnx,openvino
    python -m benchmarks.exports --dynamic mask_rcnn_resnest50 --record      # some of any size, too

Weights are defined by their names (`golden`); photographs are those of scikit-image, resized to fit. A file
is as its model where each detection of the model with a score above 0.3, or of its surest where few are, is
found at an IoU of 0.99 or more, with a score within 1e-4 (`resnest_zoo.exporting.comparison`). Times are the
process's CPU time on one thread, of everything up to boxes and the masks in them; contenders take turns and a
ratio is that of neighbours.

With `--record` each model's rows go into the file in benchmarks/results as soon as they are there, and what
stands there already, of the same versions, is not measured again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks import records
from benchmarks.golden import filled_model
from resnest_zoo import optimize
from resnest_zoo.errors import ConfigError, ExportError, ZooError
from resnest_zoo.exporting import WRITERS, Difference
from resnest_zoo.exporting.comparison import compare
from resnest_zoo.exporting.graph import FileGraph
from resnest_zoo.exporting.job import Job
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.postprocess import rescale_semantic
from resnest_zoo.ops.resize import resize_image
from resnest_zoo.registry import PUBLISHED, info, list_models
from resnest_zoo.runtimes import FORMATS, Description, Session, files_of, open_session
from resnest_zoo.structures import ImageBatch, SizeHW

TASK = "exports"
DYNAMIC = (
    "faster_rcnn_resnet50",
    "mask_rcnn_resnest50",
    "mask_cascade_resnest50",
    "panoptic_resnest200_3x",
)
_KEY = ("model", "format", "size")
_RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "torch"}
_LEAST = 96  # the shortest side of a file of any size, pixels
_OPSET = 20
_PIXELS = 1e-3  # share whose semantic class may differ: where two logits are equal but for rounding

Answer = dict[str, Tensor]


@dataclass(frozen=True)
class Cell:
    """One model in one format.

    Attributes:
        model: of the zoo.
        format: of the file.
        size: of its input, pixels; with "any" before it where the file takes any.
        outcome: "equal", or what was wrong.
        detections: of the model that were compared, in all photographs.
        box_pixels: largest difference of their corners.
        score: largest difference of their scores.
        masks: largest difference of their masks' probabilities.
        ratio: how many times as fast as the exact model, median of the rounds.
        ratio_optimized: as the optimised one.
        seconds: of the file, median.
        exact_seconds: of the exact model in the same rounds.
        optimized_seconds: of the optimised one.
        megabytes: of the file or files.
        versions: of what computed it.
        date: UTC.
    """

    model: str
    format: str
    size: str
    outcome: str
    detections: int = 0
    box_pixels: str = ""
    score: str = ""
    masks: str = ""
    ratio: str = ""
    ratio_optimized: str = ""
    seconds: str = ""
    exact_seconds: str = ""
    optimized_seconds: str = ""
    megabytes: str = ""
    versions: str = ""
    date: str = ""


@dataclass(frozen=True)
class Task:
    """What one process measures: a model in some formats."""

    model: str
    formats: tuple[str, ...]
    size: SizeHW
    dynamic: bool
    rounds: int

    @property
    def shape(self) -> str:
        """`Cell.size`."""
        return f"{'any, ' * self.dynamic}{self.size[0]} x {self.size[1]}"


@torch.no_grad()
def measure(task: Task) -> list[Cell]:
    """The cells of a model; one export serves all its formats."""
    torch.set_num_threads(1)
    model = filled_model(task.model)
    photographs = _photographs(task)
    batches = [_batch(model, photograph) for photograph in photographs]
    job = _job(model, photographs, None if task.dynamic else task.size)
    expected = [_answer(model, batch) for batch in batches]
    cells, sessions = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in task.formats:
            try:
                session, megabytes = _write(job, name, Path(folder))
                difference = _compare(expected, job.inputs, batches, session)
            except ExportError as error:
                cells.append(Cell(task.model, name, task.shape, str(error), **_conditions(name)))
                continue
            sessions[name] = session
            found = {"outcome": "equal", "megabytes": f"{megabytes:.1f}"} | _texts(difference)
            cells.append(Cell(task.model, name, task.shape, **found, **_conditions(name)))
        times = _times(model, batches[0], job.inputs[0], sessions, task.rounds)
    return [_timed(cell, times) for cell in cells]


def _photographs(task: Task) -> list[tuple[Tensor, SizeHW]]:
    """Two, resized to fit, and the input that each goes into: turned for the second where that may be."""
    from skimage import data

    height, width = task.size
    rooms = [(height, width), (width, height) if task.dynamic else (height, width)]
    found = []
    for picture, room in zip((data.coffee(), data.astronaut()), rooms, strict=True):
        factor = min(room[0] / picture.shape[0], room[1] / picture.shape[1])
        sides = (round(picture.shape[0] * factor), round(picture.shape[1] * factor))
        channels_first = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
        found.append((resize_image(channels_first, sides), room))
    return found


def _padded(picture: Tensor, room: SizeHW) -> Tensor:
    """(..., h, w) to (..., *room), by zeros."""
    return pad(picture, (0, room[1] - picture.shape[-1], 0, room[0] - picture.shape[-2]))


def _batch(model: GeneralizedRCNN, photograph: tuple[Tensor, SizeHW]) -> ImageBatch:
    """As the model wants it; padded as a file's input is, since padding counts in split attention."""
    picture, room = photograph
    prepared = model.preprocessing.batch([picture], next(model.parameters()))
    return ImageBatch(_padded(prepared.tensor, room), prepared.image_sizes)


def _job(model: GeneralizedRCNN, photographs: list[tuple[Tensor, SizeHW]], size: SizeHW | None) -> Job:
    assert model.config is not None
    multiple = model.preprocessing.size_divisibility
    least = _LEAST if size is None else multiple
    description = Description(model.config.dump(), model.categories, size, multiple, least)
    inputs = [
        (_padded(picture, room)[None], torch.tensor([picture.shape[1:]])) for picture, room in photographs
    ]
    job = Job(FileGraph(model).eval(), inputs, description, _OPSET)
    job.names = list(job.graph(*inputs[0]))
    return job


def _answer(model: GeneralizedRCNN, batch: ImageBatch) -> Answer:
    """What the model itself says, in the form of a file's answer; the semantic map as the model gives it."""
    (raw,) = model.run(batch, list(batch.image_sizes))
    found = raw.detections
    answer = {"boxes": found.boxes, "scores": found.scores, "classes": found.classes}
    if found.mask_probs is not None:
        answer["masks"] = found.mask_probs
    if raw.semantic is not None:
        answer["semantic"] = raw.semantic
    return {name: value[None] for name, value in answer.items()} | {
        "counts": torch.tensor([len(found.boxes)])
    }


def _write(job: Job, name: str, folder: Path) -> tuple[Session, float]:
    writer = import_module(f"resnest_zoo.exporting.{WRITERS[name]}")
    writer.check(_OPSET)
    paths = files_of(folder / f"model{FORMATS[name][0]}", name)
    writer.write(job, *paths)
    return open_session(paths[0], name), sum(path.stat().st_size for path in paths) / 1e6


def _compare(
    expected: list[Answer], inputs: list[tuple[Tensor, Tensor]], batches: list[ImageBatch], session: Session
) -> Difference:
    difference = Difference()
    for answer, given, batch in zip(expected, inputs, batches, strict=True):
        got = session(*given)
        if "semantic" in answer:
            (size,) = batch.image_sizes
            classes = rescale_semantic(got.pop("semantic")[0], size, size)
            apart = float((classes != answer["semantic"][0]).double().mean())
            if apart > _PIXELS:
                raise ExportError(f"the semantic class of {apart:.2%} of the pixels differs from the model's")
        things = {name: value for name, value in answer.items() if name != "semantic"}
        difference = difference.and_(compare(things, got))
    return difference


def _texts(difference: Difference) -> dict[str, Any]:
    found = {"detections": difference.detections, "box_pixels": f"{difference.boxes:.1e}"}
    return found | {"score": f"{difference.scores:.1e}", "masks": f"{difference.masks:.1e}"}


def _times(
    model: GeneralizedRCNN,
    batch: ImageBatch,
    inputs: tuple[Tensor, Tensor],
    sessions: dict[str, Session],
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of each round; the first warms up."""
    sizes = list(batch.image_sizes)
    runs: dict[str, Callable[[], object]] = {
        "exact": partial(model.run, batch, sizes),
        "optimized": partial(optimize(model, share=True).run, batch, sizes),
    }
    runs |= {name: partial(session, *inputs) for name, session in sessions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name in sorted(runs, reverse=turn % 2 == 1):
            start = time.process_time()
            runs[name]()
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def _timed(cell: Cell, times: dict[str, list[float]]) -> Cell:
    if cell.format not in times:
        return cell
    own = times[cell.format]
    medians = {name: f"{statistics.median(times[name]):.3f}" for name in ("exact", "optimized", cell.format)}
    ratios = {
        name: f"{statistics.median(a / b for a, b in zip(times[name], own, strict=True)):.2f}"
        for name in ("exact", "optimized")
    }
    return Cell(
        **asdict(cell)
        | {
            "ratio": ratios["exact"],
            "ratio_optimized": ratios["optimized"],
            "seconds": medians[cell.format],
            "exact_seconds": medians["exact"],
            "optimized_seconds": medians["optimized"],
        }
    )


def _conditions(name: str) -> dict[str, str]:
    """Of a cell: what computed it, and when."""
    return {"versions": _versions(name), "date": datetime.now(UTC).date().isoformat()}


def _versions(name: str) -> str:
    packages = dict.fromkeys(("torch", _RUNTIMES[name], "resnest-zoo-kernels"))
    return ", ".join(f"{package} {found}" for package in packages if (found := _version(package)))


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""


def plan(
    names: Sequence[str], formats: Sequence[str], size: SizeHW, dynamic: Sequence[str], rounds: int
) -> list[Task]:
    """The smaller models first, those of any size last."""

    def parameters(name: str) -> int:
        return info(name).parameters or 0

    chosen = [(name, False) for name in sorted(names, key=parameters)]
    chosen += [(name, True) for name in sorted(dynamic, key=parameters)]
    return [Task(name, tuple(formats), size, any_size, rounds) for name, any_size in chosen]


def without_known(tasks: Sequence[Task], rows: records.Rows) -> Iterator[Task]:
    """The tasks without the cells that stand in `rows`, of the same versions."""
    known = {(*(row[key] for key in _KEY), row["versions"]) for row in rows}
    for task in tasks:
        open_ = [f for f in task.formats if (task.model, f, task.shape, _versions(f)) not in known]
        if open_:
            yield Task(task.model, tuple(open_), task.size, task.dynamic, task.rounds)


def _line(cell: Cell) -> str:
    numbers = (cell.ratio, cell.ratio_optimized, cell.box_pixels, cell.score, cell.outcome)
    return f"{cell.model:<38} {cell.format:<9} {cell.size:<16} {'  '.join(numbers)}"


def _names(patterns: Sequence[str]) -> list[str]:
    found = [name for pattern in patterns for name in list_models(pattern) if name in PUBLISHED]
    if patterns and not found:
        raise ConfigError(f"no published model is called {', '.join(patterns)}")
    return list(dict.fromkeys(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exports", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="only these models; default all 21")
    parser.add_argument("--formats", default=",".join(WRITERS), help="names and commas; default all")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument(
        "--dynamic", nargs="*", default=(), metavar="NAME", help="these of any size; * for four"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--jobs", type=int, default=1, help="models at once; default 1")
    parser.add_argument("--record", action="store_true", help="write the file in benchmarks/results")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    formats = [name.strip() for name in args.formats.split(",") if name.strip()]
    try:
        if unknown := set(formats) - set(WRITERS):
            raise ConfigError(f"--formats: expected some of {', '.join(WRITERS)}, got {', '.join(unknown)}")
        dynamic = DYNAMIC if tuple(args.dynamic) == ("*",) else _names(args.dynamic)
        patterns = args.patterns or ([] if args.dynamic else ["*"])
        tasks = plan(_names(patterns), formats, tuple(args.size), dynamic, args.rounds)
    except ZooError as error:
        parser.error(str(error))
    if args.record:
        tasks = list(without_known(tasks, records.read(TASK).get(records.path_of(TASK).stem, [])))
    spawn = multiprocessing.get_context("spawn")
    bad = 0
    # A process for each model, so that none inherits another's memory.
    with ProcessPoolExecutor(args.jobs, spawn, max_tasks_per_child=1) as pool:
        for done in as_completed([pool.submit(measure, task) for task in tasks]):
            cells = done.result()
            print("\n".join(map(_line, cells)), flush=True)
            bad += sum(cell.outcome != "equal" for cell in cells)
            if args.record:
                records.record(TASK, cells, _KEY)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
