"""Photographs in, results that draw themselves and write COCO JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from PIL import Image
from torch import Tensor

from resnest_zoo.data.pictures import Picture, read_picture
from resnest_zoo.errors import ConfigError, ZooError
from resnest_zoo.evaluation.panoptic import encode_ids
from resnest_zoo.evaluation.results import detection_rows, segment_rows
from resnest_zoo.inference.tta import TTA, check_model
from resnest_zoo.inference.visualize import draw_instances, draw_panoptic
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import Instances

# Pictures of a list that go through the model together at most. On the model's device their features, the
# masks kept of them, H * W bytes each, and the logits of semantic maps are held at the same time; results of
# earlier ones lie on the CPU.
_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Prediction:
    """One picture and what was found in it.

    Attributes:
        image: (3, H, W) uint8 RGB on the CPU, upright.
        instances: in its pixels, on the CPU.
    """

    image: Tensor
    instances: Instances

    def __len__(self) -> int:
        return len(self.instances)

    def plot(self) -> Image.Image:
        """The picture with boxes, masks and labels, or with its panoptic segments, drawn in."""
        picture = Image.fromarray(self.image.permute(1, 2, 0).contiguous().numpy())
        draw = draw_instances if self.instances.panoptic is None else draw_panoptic
        return draw(picture, self.instances)

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """The instances in COCO's result format; see `resnest_zoo.evaluation.results.detection_rows`."""
        return detection_rows(self.instances, image_id)

    def to_coco_panoptic(self, image_id: int = 0) -> tuple[dict[str, Any], Image.Image]:
        """The panoptic result in COCO's format.

        Returns:
            The annotation with `image_id` and `segments_info`, and the picture whose pixels hold segment ids
            as R + 256 * G + 65536 * B.

        Raises:
            ZooError: the model is not panoptic, or it ran with test-time augmentation.
        """
        panoptic, categories = self.instances.panoptic, self.instances.categories
        if panoptic is None:
            raise ZooError(
                "this prediction has no panoptic result; use a panoptic model without augmentation"
            )
        annotation = {"image_id": image_id, "segments_info": segment_rows(panoptic, categories)}
        return annotation, Image.fromarray(encode_ids(panoptic.segment_map.numpy()))


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
