"""Time of every detector beside that of `faster_rcnn_resnet50`, in turns within one run.

    python -m benchmarks.speed --record           # all models; each into the file in benchmarks/results
    python -m benchmarks.speed 'mask_*' --device cuda
    python -m benchmarks.speed --peers detectron2,torchvision,onnxruntime    # beside others; see `peers`

One picture of 480 x 640 enters each model at 800 x 1067 and leaves with boxes, masks and segments. Weights
are defined by their names (`golden`), so that anybody's run works the same: 1000 proposals, and as many
detections as the table says. Machines differ and are noisy: quote the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import torch
import torchvision

from benchmarks import peers, records
from benchmarks.golden import filled_model
from benchmarks.golden_values import image
from benchmarks.ratios import turns
from benchmarks.verify.outcome import aligned
from resnest_zoo.errors import ZooError
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.registry import MMDETECTION, PUBLISHED, list_models

REFERENCE = "faster_rcnn_resnet50"
_SIZE = (480, 640)
_SEED = 0


@dataclass(frozen=True)
class Speed:
    """One model.

    Attributes:
        name: of the model.
        ratio: its time as a multiple of the reference's, median over neighbours.
        seconds: median.
        reference_seconds: of the reference in the same run, median.
        detections: in the picture.
        threads: of the CPU.
        date: UTC.
        versions: of what computed it.
    """

    name: str
    ratio: float
    seconds: float
    reference_seconds: float
    detections: int
    threads: int
    date: str
    versions: str


def measure(name: str, reference: GeneralizedRCNN, device: str, rounds: int) -> Speed:
    """Time a model and the reference in turns; the first round warms up."""
    model = _model(name, device)
    picture = torch.from_numpy(image(*_SIZE, _SEED))

    def run(detector: GeneralizedRCNN) -> int:
        (found,) = detector([picture])
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return len(found)

    ours, theirs = turns(rounds, lambda: run(model), lambda: run(reference))
    return Speed(
        name,
        round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
        round(statistics.median(ours), 3),
        round(statistics.median(theirs), 3),
        run(model),
        torch.get_num_threads(),
        datetime.now(UTC).date().isoformat(),
        f"torchvision {torchvision.__version__.partition('+')[0]}",
    )


def _model(name: str, device: str) -> GeneralizedRCNN:
    return filled_model(name, ["INPUT.MIN_SIZE_TEST", "800"]).to(device)


def read_speeds() -> dict[str, list[Speed]]:
    """What was recorded, by the conditions in the file's name."""
    return {
        stem: [Speed(**{f.name: _PARSERS[str(f.type)](row[f.name]) for f in fields(Speed)}) for row in rows]
        for stem, rows in records.read("speed").items()
    }


_PARSERS = {"str": str, "int": int, "float": float}


def record(speeds: Sequence[Speed], device: str = "cpu") -> Path:
    """Put them in the file of their device and torch; they replace those of the same models."""
    return records.record("speed", speeds, ("name",), device)


def _beside_peers(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    rows = []
    try:
        names = peers.check_peers(args.peers)
        models = list_models(args.pattern) if args.pattern else peers.MODELS
        for threads in args.threads:
            for detections in args.detections:
                rows += peers.measure(models, names, detections, threads, args.rounds)
    except ZooError as error:
        parser.error(str(error))
    print(peers.show(rows))
    if args.record:
        peers.record(rows)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", help="only these models")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write the file in benchmarks/results")
    parser.add_argument("--peers", help="compare ours, exact and optimised, with these; names and commas")
    parser.add_argument("--detections", type=int, nargs="+", default=[100], help="with --peers; default 100")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="with --peers; default 1")
    args = parser.parse_args(argv)
    if args.peers is not None:
        return _beside_peers(parser, args)
    reference = _model(REFERENCE, args.device)
    speeds = []
    for name in list_models(args.pattern or "*"):
        if name in (*PUBLISHED, *MMDETECTION):
            speeds.append(measure(name, reference, args.device, args.rounds))
            print(f"{name:<32} {speeds[-1].ratio:6.2f} x  {speeds[-1].seconds:.2f} s", flush=True)
            if args.record:
                record(speeds[-1:], args.device)
    rows = [[s.name, f"{s.ratio:.2f}", f"{s.seconds:.2f}", str(s.detections)] for s in speeds]
    print("\n".join(aligned(["model", f"x {REFERENCE}", "seconds", "detections"], rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
