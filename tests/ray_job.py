"""A job of `predict_dataset` in a process of its own, with pictures that kill theirs.

    python -m tests.ray_job SOURCE OUTPUT --config FILE --weights FILE --part-rows N

It always resumes. A picture with "kills" in its name ends the process that reads it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch

from resnest_zoo.api import Predictor
from resnest_zoo.categories import Categories
from resnest_zoo.inference import Prediction
from resnest_zoo.integrations.ray import Workers, predict_dataset
from resnest_zoo.structures import Instances


class Deadly:
    """A predictor that ends its process at some pictures."""

    def __init__(self, config: str, weights: str | None, overrides: list[str]) -> None:
        torch.set_num_threads(1)
        self.predictor = Predictor(
            config, weights=weights, overrides=overrides, device="cpu", score_threshold=0
        )
        self.model = self.predictor.model
        self.score_threshold = 0.0

    def stream(self, pictures: Iterable[Any], **options: Any) -> Iterator[Any]:
        def survived() -> Iterator[Any]:
            for picture in pictures:
                if isinstance(picture, str) and "kills" in picture:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield picture

        return self.predictor.stream(survived(), **options)


class Quick:
    """A stub that finds twenty things in no time and reads nothing; its one weight is a number."""

    def __init__(self, weight: float = 0.0) -> None:
        self.model: Any = torch.nn.Linear(1, 1, bias=False).requires_grad_(False)
        self.model.weight.fill_(weight)
        self.model.categories = Categories(("ball",), (3,))
        self.model.fresh_layers = ()
        self.score_threshold = 0.5
        boxes = torch.arange(80, dtype=torch.float32).reshape(20, 4)
        self.found = Instances(
            boxes,
            torch.full((20,), 0.9),
            torch.zeros(20, dtype=torch.int64),
            (480, 640),
            self.model.categories,
        )

    def stream(self, pictures: Iterable[Any], **_: Any) -> Iterator[Any]:
        for _picture in pictures:
            yield Prediction(torch.zeros(3, 1, 1, dtype=torch.uint8), self.found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--config")
    parser.add_argument("--weights")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part-rows", type=int, default=10_000)
    args = parser.parse_args()
    model = partial(Deadly, args.config, args.weights, args.set) if args.config else Quick
    start = time.monotonic()
    done = predict_dataset(
        args.source,
        args.output,
        model,
        workers=Workers(args.workers),
        resume=True,
        part_rows=args.part_rows,
        progress=False,
    )
    with open("/proc/self/status") as status:  # noqa: PTH123
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(
        f"{done} {time.monotonic() - start:.1f} s, peak {peak >> 10} MiB, "
        f"{time.process_time():.1f} s of processor time of the driver",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
