"""Random crop, resize and flip of a picture together with all that is marked in it.

A transform is drawn first, as plain numbers, and then applied to each kind of data, so that one drawing
suits them all. Legend: H and W height and width before, h and w after, G boxes, P points.

Source: detectron2, data/detection_utils.py, `build_augmentation`, data/dataset_mapper.py and
data/transforms; fvcore, transforms/transform.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from resnest_zoo.config import Crop, Input
from resnest_zoo.data.segmentation import Polygon, clip_polygon
from resnest_zoo.ops.resize import resize_image, shortest_edge_size
from resnest_zoo.structures import SizeHW

Boxes = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]

_FLIP_PROBABILITY = 0.5


@dataclass(frozen=True)
class Window:
    """A part of a picture: its first row and column, and its size, all whole pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Transform:
    """A crop, then a resize, then a flip.

    Attributes:
        window: the part that is kept; where nothing is cropped, the whole picture.
        size: (h, w) after the resize.
        flip: along which axis, or "none".
        cropped: whether the crop is part of the recipe. It then also cuts polygons.
    """

    window: Window
    size: SizeHW
    flip: Literal["horizontal", "vertical", "none"] = "none"
    cropped: bool = False

    def image(self, image: Tensor) -> Tensor:
        """A picture, (3, H, W) to (3, h, w) uint8, with Pillow's bilinear filter."""
        a = self.window
        cut = image[:, a.top : a.top + a.height, a.left : a.left + a.width]
        resized = resize_image(cut, self.size)
        if self.flip != "none":
            resized = resized.flip(2 if self.flip == "horizontal" else 1)
        return resized.contiguous()

    def labels(self, labels: Labels) -> Labels:
        """A map of classes or a mask, (H, W) to (h, w), each pixel from its nearest neighbour."""
        a = self.window
        cut = labels[a.top : a.top + a.height, a.left : a.left + a.width]
        if cut.shape != self.size:
            picture = Image.fromarray(np.ascontiguousarray(cut))
            cut = np.array(picture.resize(self.size[::-1], Image.Resampling.NEAREST))
        if self.flip != "none":
            cut = np.flip(cut, axis=1 if self.flip == "horizontal" else 0)
        return np.ascontiguousarray(cut)

    def boxes(self, boxes: Boxes) -> Boxes:
        """Boxes, (G, 4) xyxy, cut at the border of the result; those outside become empty."""
        corners = self._points(boxes.reshape(-1, 2, 2))
        ordered = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)  # (G, 4)
        height, width = self.size
        limits = np.array([width, height, width, height], dtype=np.float64)
        clipped: Boxes = np.minimum(np.maximum(ordered, 0), limits)
        return clipped

    def polygons(self, polygons: list[Polygon]) -> list[Polygon]:
        """Polygons, (P, 2) each. A crop cuts them, into several where needed, and drops those outside."""
        if self.cropped:
            a = self.window
            window = (a.left, a.top, a.left + a.width, a.top + a.height)
            polygons = [part for polygon in polygons for part in clip_polygon(polygon, window)]
        return [self._points(polygon) for polygon in polygons]

    def _points(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(..., 2) xy. The order of the operations is that of the reference, which rounding can show."""
        a, (height, width) = self.window, self.size
        moved = (points - (a.left, a.top)) * (width / a.width, height / a.height)
        if self.flip == "horizontal":
            moved[..., 0] = width - moved[..., 0]
        elif self.flip == "vertical":
            moved[..., 1] = height - moved[..., 1]
        return moved


def draw_transform(settings: Input, size: SizeHW, rng: np.random.Generator) -> Transform:
    """A random transform for a picture of `size`, as INPUT describes it.

    All randomness comes from `rng`, in the order crop, size, flip.
    """
    window = Window(0, 0, *size)
    if settings.crop.enabled:
        window = _draw_window(settings.crop, size, rng)
    sizes = settings.min_size_train
    if settings.min_size_train_sampling == "range":
        min_size = int(rng.integers(sizes[0], sizes[1], endpoint=True))
    else:
        min_size = sizes[rng.integers(len(sizes))]
    new_size = shortest_edge_size((window.height, window.width), min_size, settings.max_size_train)
    flipped = settings.random_flip != "none" and rng.random() < _FLIP_PROBABILITY
    return Transform(window, new_size, settings.random_flip if flipped else "none", settings.crop.enabled)


def _draw_window(crop: Crop, size: SizeHW, rng: np.random.Generator) -> Window:
    height, width = (
        min(max(side, 1), whole) for side, whole in zip(_crop_size(crop, size, rng), size, strict=True)
    )
    top = int(rng.integers(size[0] - height, endpoint=True))
    left = int(rng.integers(size[1] - width, endpoint=True))
    return Window(top, left, height, width)


def _crop_size(crop: Crop, size: SizeHW, rng: np.random.Generator) -> SizeHW:
    """Height and width of the window in whole pixels.

    "relative" takes these fractions of the sides and "absolute" these pixels; "relative_range" draws each
    fraction between the given one and 1. The two numbers of "absolute_range" are no height and width: both
    sides are drawn between the one and the other.
    """
    height, width = size
    a, b = crop.size
    if crop.type == "absolute":
        return int(a), int(b)
    if crop.type == "absolute_range":
        low, high = int(min(crop.size)), int(max(crop.size))
        return (
            int(rng.integers(min(height, low), min(height, high), endpoint=True)),
            int(rng.integers(min(width, low), min(width, high), endpoint=True)),
        )
    if crop.type == "relative_range":
        a, b = (low + rng.random() * (1 - low) for low in crop.size)
    return int(height * a + 0.5), int(width * b + 0.5)
