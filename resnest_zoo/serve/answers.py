"""Predictions as JSON: the rows of `predictions.json`, and COCO's data sets."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnest_zoo.categories import Categories
    from resnest_zoo.inference import Prediction


def describe_categories(categories: Categories) -> dict[str, list[dict[str, Any]]]:
    """What category ids mean, as `predictions.json` has it."""
    found = {"categories": _rows(categories.thing_ids, categories.things)}
    if categories.stuff:
        found["stuff_categories"] = _rows(categories.stuff_ids[1:], categories.stuff[1:])
    return found


def _rows(ids: Iterable[int], names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in zip(ids, names, strict=True)]


def describe(prediction: Prediction, image_id: int, *, masks: bool = True) -> dict[str, Any]:
    """One picture of an answer.

    Args:
        prediction: what was found.
        image_id: in its rows.
        masks: with run lengths, where the model gives masks.

    Returns:
        `width`, `height`, `predictions` and, of a panoptic model, `panoptic` as
        docs/predictions.schema.json has them, and `panoptic_png`: base64
        of a PNG whose pixels are ids of segments.
    """
    height, width = prediction.image_size
    if not masks:
        prediction = _without_masks(prediction)
    found: dict[str, Any] = {"width": width, "height": height, "predictions": prediction.to_coco(image_id)}
    if prediction.panoptic is not None:
        from resnest_zoo.inference.visualize import encode_picture

        found["panoptic"], picture = prediction.to_coco_panoptic(image_id)
        found["panoptic_png"] = base64.b64encode(encode_picture(picture, "PNG")).decode("ascii")
    return found


def _without_masks(prediction: Prediction) -> Prediction:
    from dataclasses import replace

    return replace(prediction, instances=replace(prediction.instances, masks=None, rles=None))


def describe_as_coco(predictions: Sequence[Prediction], names: Sequence[str]) -> dict[str, Any]:
    """The answer as a data set in COCO's format; pictures are numbered from 1, in their order."""
    from resnest_zoo.inference.exports import to_coco_dataset

    pairs = zip(names, (prediction.instances for prediction in predictions), strict=True)
    return to_coco_dataset(pairs)
