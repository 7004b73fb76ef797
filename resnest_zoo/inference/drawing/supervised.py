"""Drawings by the package `supervision`, for those whose other pictures are its."""

from __future__ import annotations

import numpy as np
from PIL import Image

from resnest_zoo.extras import load_extra
from resnest_zoo.inference.drawing.style import Style
from resnest_zoo.structures import Instances


def draw_supervised(picture: Image.Image, instances: Instances, style: Style) -> Image.Image:
    """Instances as supervision's annotators draw them; a panoptic map they do not know.

    Raises:
        ConfigError: the style does not fit the instances.
        ZooError: supervision is not installed.
    """
    supervision = load_extra("supervision", "supervision")
    keys = np.array(style.keys(instances.classes.tolist()), np.int64)
    detections = supervision.Detections(
        xyxy=instances.boxes.numpy().astype(np.float32).reshape(-1, 4),
        mask=None if instances.masks is None else instances.masks.numpy(),
        confidence=instances.scores.numpy(),
        class_id=instances.classes.numpy(),
        tracker_id=None if style.ids is None else keys,
    )
    lookup = keys % 2**31  # negative ids, of what is not tracked, are no places in a palette
    pixels = np.array(picture)[:, :, ::-1].copy()  # BGR, as OpenCV has it
    if style.masks and detections.mask is not None:
        pixels = supervision.MaskAnnotator().annotate(pixels, detections, custom_color_lookup=lookup)
    if style.boxes:
        pixels = supervision.BoxAnnotator().annotate(pixels, detections, custom_color_lookup=lookup)
    if style.labels:
        scores = instances.scores.tolist()
        numbers = [None] * len(instances) if style.ids is None else keys.tolist()
        texts = [
            style.label(name, score, number)[0]
            for name, score, number in zip(instances.names, scores, numbers, strict=True)
        ]
        annotator = supervision.LabelAnnotator(smart_position=True)
        pixels = annotator.annotate(pixels, detections, labels=texts, custom_color_lookup=lookup)
    return Image.fromarray(pixels[:, :, ::-1].copy())
