"""A model for `predict` that finds one thing at once: for files, memory and kills beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from resnest_zoo.categories import Categories
from resnest_zoo.data.pictures import read_picture
from resnest_zoo.inference import Prediction
from resnest_zoo.structures import Instances, PanopticResult, Segment

CATEGORIES = Categories(("ball",), (3,), ("things", "grass"), (0, 7))


class StubPredictor:
    """Called as `resnest_zoo.api.Predictor` is; its only weight is `weights`, a number."""

    def __init__(self, model: str, *, score_threshold: float, weights: str | None, **_: Any) -> None:
        self.model = torch.nn.Linear(1, 1, bias=False).requires_grad_(False)
        self.model.weight.fill_(float(weights or 0))
        self.model.categories = CATEGORIES  # type: ignore[assignment]
        self.model.fresh_layers = ()  # type: ignore[assignment]
        self.score_threshold = score_threshold

    def __call__(self, picture: Path) -> Prediction:
        image = read_picture(picture)
        size = (image.shape[1], image.shape[2])
        ids = torch.full(size, 2, dtype=torch.int32)
        ids[:2, :2] = 1
        segments = (Segment(1, True, 0, 4, 0.9, 0), Segment(2, False, 1, int((ids == 2).sum())))
        instances = Instances(
            torch.tensor([[0.0, 0, 2, 2]]),
            torch.tensor([0.9]),
            torch.tensor([0]),
            size,
            CATEGORIES,
            panoptic=PanopticResult(ids, segments, (ids == 2).long()),
        )
        return Prediction(image, instances)
