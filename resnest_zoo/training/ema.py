"""A moving average of the weights, which often detects better than the weights themselves."""

from __future__ import annotations

from copy import deepcopy

import torch

from resnest_zoo.models import GeneralizedRCNN


class EMA:
    """A copy of a model that follows it slowly.

    Attributes:
        model: the average, in evaluation mode.
        decay: what of the average stays at each iteration, below 1. Early on it is (1 + i) / (10 + i) at
            iteration i, so that the random weights of the start are soon forgotten.
    """

    def __init__(self, model: GeneralizedRCNN, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: GeneralizedRCNN, iteration: int) -> None:
        """Move towards `model`, statistics of norms included; `iteration` counts from 0."""
        weight = 1 - min(self.decay, (1 + iteration) / (10 + iteration))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, weight)
            else:
                mine.copy_(theirs)
