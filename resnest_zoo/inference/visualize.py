"""Boxes, masks, panoptic segments and labels drawn into a picture, with Pillow alone."""

from __future__ import annotations

import colorsys
import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resnest_zoo.structures import Instances

Colour = tuple[int, int, int]
Array = np.ndarray[Any, Any]

# Steps of the golden ratio around the colour circle keep neighbouring classes far apart.
_HUE_STEP = 0.618034
_MASK_OPACITY = 0.45
_SEGMENT_OPACITY = 0.55


def class_colour(index: int) -> Colour:
    """A bright colour that is always the same for a class."""
    value = 1.0 if index % 2 else 0.85
    red, green, blue = colorsys.hsv_to_rgb(index * _HUE_STEP % 1, 0.75, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def encode_picture(picture: Image.Image, form: str, **options: Any) -> bytes:
    """What a picture's file holds, in one of Pillow's formats."""
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def draw_instances(picture: Image.Image, instances: Instances) -> Image.Image:
    """Masks under boxes under labels; the best detection last, so that it is never covered.

    Args:
        picture: RGB, of the instances' size; it is not changed.
        instances: on the CPU.

    Returns:
        A new picture of the same size.
    """
    order = range(len(instances) - 1, -1, -1)
    colours = [class_colour(k) for k in instances.classes.tolist()]
    pixels = np.array(picture)
    if instances.masks is not None:
        for index in order:
            _blend(pixels, instances.masks[index].numpy(), colours[index], _MASK_OPACITY)
    drawn = Image.fromarray(pixels)
    pen = _Pen(drawn)
    boxes = instances.boxes.tolist()
    for index in order:
        pen.box(boxes[index], colours[index])
    names, scores = instances.names, instances.scores.tolist()
    for index in order:
        pen.label(boxes[index][:2], f"{names[index]} {scores[index]:.0%}", colours[index])
    return drawn


def draw_panoptic(picture: Image.Image, instances: Instances) -> Image.Image:
    """Each segment in its class's colour with a dark outline and its name in its middle."""
    panoptic = instances.panoptic
    assert panoptic is not None
    ids = panoptic.segment_map.numpy()
    pixels = np.array(picture)
    labels: list[tuple[tuple[float, float], str, Colour]] = []
    things = len(instances.categories.things)
    for segment in panoptic.segments:
        names = instances.categories.things if segment.is_thing else instances.categories.stuff
        colour = class_colour(segment.class_index + (0 if segment.is_thing else things))
        mask = ids == segment.id
        if not mask.any():
            continue
        _blend(pixels, mask, colour, _SEGMENT_OPACITY)
        labels.append((_middle(mask), names[segment.class_index], colour))
    pixels[_outlines(ids)] = 20
    drawn = Image.fromarray(pixels)
    pen = _Pen(drawn)
    for (x, y), name, colour in labels:
        pen.label((x, y), name, colour, centred=True)
    return drawn


def _blend(pixels: Array, mask: Array, colour: Colour, opacity: float) -> None:
    pixels[mask] = np.rint((1 - opacity) * pixels[mask] + opacity * np.array(colour)).astype(np.uint8)


def _outlines(ids: Array) -> Array:
    edges = np.zeros(ids.shape, dtype=bool)
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edges[1:] |= ids[1:] != ids[:-1]
    return edges


def _middle(mask: Array) -> tuple[float, float]:
    """A pixel of the mask, (x, y), near its centre of mass: a label there names the right segment."""
    rows, cols = mask.nonzero()
    nearest = np.argmin((rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2)
    return float(cols[nearest]), float(rows[nearest])


class _Pen:
    """Draws with line width and letters that suit the picture's size."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self.draw = ImageDraw.Draw(picture)
        side = min(picture.size)
        self.width = max(1, round(side / 250))
        self.font = ImageFont.load_default(size=max(10, side / 38))

    def box(self, box: list[float], colour: Colour) -> None:
        """Lines along the inside of the box; a box that has no room for them is filled."""
        width, height = self.picture.size
        x0, y0, x1, y1 = (round(v) for v in box)
        x1, y1 = min(max(x0, x1 - 1), width - 1), min(max(y0, y1 - 1), height - 1)
        x0, y0 = min(x0, x1), min(y0, y1)
        if min(x1 - x0, y1 - y0) < 2 * self.width:  # Pillow would draw beyond the box
            self.draw.rectangle((x0, y0, x1, y1), fill=colour)
        else:
            self.draw.rectangle((x0, y0, x1, y1), outline=colour, width=self.width)

    def label(
        self, at: list[float] | tuple[float, float], text: str, colour: Colour, centred: bool = False
    ) -> None:
        """Text on a patch of `colour`: above the point, or around it; always inside the picture."""
        left, top, right, bottom = self.draw.textbbox((0, 0), text, font=self.font)
        width, height = right - left + 2 * self.width, bottom - top + 2 * self.width
        x, y = (at[0] - width / 2, at[1] - height / 2) if centred else (at[0], at[1] - height)
        if y < 0:
            y = 0 if centred else at[1]
        x = max(0, min(x, self.picture.width - width))
        y = max(0, min(y, self.picture.height - height))
        self.draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        red, green, blue = colour
        dark = 0.299 * red + 0.587 * green + 0.114 * blue > 140
        ink = (0, 0, 0) if dark else (255, 255, 255)
        self.draw.text((x + self.width - left, y + self.width - top), text, fill=ink, font=self.font)
