"""Speed and memory of training beside detectron2's, in turns within one run.

    python -m benchmarks.train_speed                            # a few models on the CPU, one thread
    python -m benchmarks.train_speed 'mask_*' --device cuda
    python -m benchmarks.train_speed --check                    # exit status 1 if a bound is missed

Both sides train the same weights on the same drawn pictures, each in a process of its own (`train_side`), and
take turns of a few iterations: `training.trainer.train` here, `SimpleTrainer` with its schedule there. An
iteration is all that happens from one batch to the next: forward, backward, clipping, the step, the losses
as numbers. Reading pictures is left out on both sides. On the CPU with one thread the seconds are CPU time,
which neighbours disturb least, else the clock's. Memory is the most that the process needed: on the CPU
beyond what it held before it had a model, on a GPU what PyTorch allocated.

Where detectron2 cannot train a model, our side stands alone. ResNeSt needs the fork that the models come
from (github.com/chongruo/detectron2-ResNeSt), or its `resnet.py`, `splat.py` and config keys in a newer
detectron2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.ratios import Row
from benchmarks.sides import Side
from benchmarks.verify.outcome import aligned
from resnest_zoo.errors import ZooError
from resnest_zoo.registry import list_models

_DEFAULT = ("faster_rcnn_resnet50", "mask_rcnn_resnet50", "mask_cascade_resnet50", "mask_rcnn_resnest50")
_HEADER = ("model", "ours it/s", "theirs it/s", "ratio", "p10", "ours MB", "theirs MB", "ratio", "")


def _side(name: str, model: str, weights: Path, args: argparse.Namespace) -> Side:
    words = [name, model, "--weights", str(weights), "--device", args.device]
    words += ["--threads", str(args.threads), "--size", *map(str, args.size), "--opts", *args.opts]
    return Side("benchmarks.train_side", words)


@dataclass(frozen=True)
class Comparison:
    """One model.

    Attributes:
        speed: seconds of an iteration, the mean of each turn.
        ours_mb: memory.
        theirs_mb: None where detectron2 cannot train the model.
        note: why it cannot.
    """

    speed: Row
    ours_mb: float
    theirs_mb: float | None
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.theirs_mb is None or (self.speed.passed and self.ours_mb <= self.theirs_mb)

    def cells(self) -> list[str]:
        speed, theirs = self.speed, self.speed.theirs
        cells = [speed.name, _per_second(speed.ours), "", "", "", f"{self.ours_mb:.0f}", "", "", self.note]
        if theirs is not None and self.theirs_mb is not None:
            cells[2:5] = [_per_second(theirs), f"{statistics.median(speed.ratios):.3f}", f"{speed.low:.3f}"]
            cells[6:8] = [f"{self.theirs_mb:.0f}", f"{self.ours_mb / self.theirs_mb:.3f}"]
            cells[8] = "met" if self.passed else "MISSED"
        return cells


def _per_second(seconds: list[float]) -> str:
    return f"{1 / statistics.median(seconds):.3f}"


def measure(model: str, args: argparse.Namespace) -> Comparison:
    """Train one model on both sides in turns; the first turn warms up."""
    with ExitStack() as stack:
        weights = Path(stack.enter_context(tempfile.TemporaryDirectory()), "weights.pt")
        sides = [stack.enter_context(_side("ours", model, weights, args))]
        note = "" if args.detectron2 else "alone"
        try:
            if args.detectron2:
                sides.append(stack.enter_context(_side("theirs", model, weights, args)))
                sides[1].run(1)
        except ZooError as error:
            note = f"alone, {error}"
            del sides[1:]
        sides[0].run(1)
        seconds: list[list[float]] = [[] for _ in sides]
        memory = [0.0 for _ in sides]
        for turn in range(args.rounds):
            for k in sorted(range(len(sides)), reverse=turn % 2 == 1):
                answer = sides[k].run(args.iterations)
                seconds[k].append(statistics.mean(answer["seconds"]))
                memory[k] = answer["memory_mb"]
    both = len(sides) == 2
    row = Row(model, seconds[0], seconds[1] if both else None, 1.0)
    return Comparison(row, memory[0], memory[1] if both else None, note)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=_DEFAULT, help=f"default {', '.join(_DEFAULT)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; default 1")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="of pictures"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side; default 5")
    parser.add_argument("--iterations", type=int, default=2, help="of a turn; default 2")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config overrides")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    args = parser.parse_args()
    args.detectron2 = find_spec("detectron2") is not None
    if not args.detectron2:
        print("detectron2 is not installed: our side stands alone", file=sys.stderr)
    names = dict.fromkeys(name for pattern in args.patterns for name in list_models(pattern))
    found = []
    for name in names:
        try:
            found.append(measure(name, args))
        except ZooError as error:
            parser.error(f"{name}: {error}")
        if not args.json:
            print("  ".join(found[-1].cells()), file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps([{**vars(c), "speed": vars(c.speed)} for c in found]))
    else:
        print("\n".join(aligned(_HEADER, [c.cells() for c in found])))
    return int(args.check and not all(c.passed for c in found))


if __name__ == "__main__":
    sys.exit(main())
