"""Photographs in, predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from torch import Tensor

from resnest_zoo.data.pictures import Picture, read_picture
from resnest_zoo.errors import ConfigError
from resnest_zoo.inference.prediction import Prediction
from resnest_zoo.inference.tta import TTA, check_model
from resnest_zoo.models import GeneralizedRCNN

# Pictures of a list that go through the model together at most. On the model's device their features, the
# masks kept of them, H * W bytes each, and the logits of semantic maps are held at the same time; results of
# earlier ones lie on the CPU.
_AT_ONCE = 4


class PicturePredictor:
    """A detector that reads pictures from wherever they are."""

    def __init__(self, model: GeneralizedRCNN, *, score_threshold: float = 0.5, tta: bool = False) -> None:
        """Wrap a model.

        Args:
            model: in evaluation mode, on the device it shall run on.
            score_threshold: detections below it are left out, 0-1.
            tta: use the test-time augmentation of the model's config.

        Raises:
            ConfigError: `model` is none, or the threshold is outside 0-1.
        """
        check_model(model)
        check_score_threshold(score_threshold)
        self.model = model
        self.score_threshold = score_threshold
        self._detect = TTA(model) if tta else model

    @overload
    def __call__(self, pictures: Picture) -> Prediction: ...  # type: ignore[overload-overlap]  # str: one picture
    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[Prediction]: ...

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Prediction | list[Prediction]:
        """Detect in one picture, or in each of a list or tuple.

        All pictures of a list and all results are held at once; for many, call picture after picture.

        Args:
            pictures: see `read_picture` for what a picture may be.

        Raises:
            ImageError: a picture cannot be used.
        """
        if isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes | bytearray):
            return self._predict([read_picture(picture) for picture in pictures])
        return self._predict([read_picture(pictures)])[0]

    def _predict(self, images: list[Tensor]) -> list[Prediction]:
        images = self.model.accept(images)  # all, so that a message counts in the whole list
        predictions = []
        for start in range(0, len(images), _AT_ONCE):
            few = images[start : start + _AT_ONCE]
            found = self._detect(few, score_threshold=self.score_threshold)
            predictions += [
                Prediction(image.cpu(), instances.to("cpu"))
                for image, instances in zip(few, found, strict=True)
            ]
        return predictions


def check_score_threshold(threshold: float) -> None:
    """Refuse a threshold outside 0-1, NaN included.

    Raises:
        ConfigError: it is.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"score_threshold: expected a number from 0 to 1, got {threshold}")
