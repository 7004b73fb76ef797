"""Boxes, masks, panoptic segments and labels drawn into a picture, with Pillow alone."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from resnest_zoo.inference.drawing.colours import Colour, class_colour, rim_of
from resnest_zoo.inference.drawing.labels import Label, draw_labels, letters_for
from resnest_zoo.inference.drawing.masks import Region, fill, outline
from resnest_zoo.inference.drawing.placement import Box
from resnest_zoo.inference.drawing.segments import largest_pieces
from resnest_zoo.inference.drawing.style import Style
from resnest_zoo.structures import Instances, PanopticResult, Segment

__all__ = ["JPEG", "Style", "class_colour", "draw", "draw_instances", "draw_panoptic", "encode_picture"]

Array = np.ndarray[Any, Any]

JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0}  # subsampling would blur lines and letters
_PLAIN = Style()
_SEGMENT_FILL = 0.4
_BORDER: Colour = (20, 20, 20)


def encode_picture(picture: Image.Image, form: str, **options: Any) -> bytes:
    """What a picture's file holds, in one of Pillow's formats."""
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def draw(picture: Image.Image, instances: Instances, style: Style = _PLAIN) -> Image.Image:
    """The panoptic map where there is one and the style wants it, otherwise the instances.

    Args:
        picture: RGB, of the instances' size; it is not changed.
        instances: on the CPU.
        style: what is drawn, and how.

    Returns:
        A new picture of the same size.

    Raises:
        ConfigError: the style does not fit the instances, or its font cannot be used.
        ZooError: it asks for a package that is not installed.
    """
    if style.backend == "supervision":
        from resnest_zoo.inference.drawing.supervised import draw_supervised

        return draw_supervised(picture, instances, style)
    if instances.panoptic is not None and style.panoptic and style.masks:
        return draw_panoptic(picture, instances, style)
    return draw_instances(picture, instances, style)


def draw_instances(picture: Image.Image, instances: Instances, style: Style = _PLAIN) -> Image.Image:
    """Masks under boxes under labels; the best detection last, so that it is never covered.

    Arguments, result and errors are those of `draw`.
    """
    colours = [class_colour(key) for key in style.keys(instances.classes.tolist())]
    best_first = np.argsort(-instances.scores.numpy(), kind="stable").tolist()
    order = best_first[::-1]
    original = np.array(picture)
    width = _line_width(picture.size)
    pixels = original.copy()
    regions = _regions(instances) if style.masks else {}
    for index in order:
        if index in regions:
            fill(pixels, regions[index], colours[index])
    for index in order:
        if index in regions:
            outline(pixels, regions[index], colours[index], width, original)
    drawn = Image.fromarray(pixels)
    boxes = [_in_picture(box, picture.size) for box in instances.boxes.tolist()]
    if style.boxes:
        pen = ImageDraw.Draw(drawn)
        for index in order:
            _draw_box(pen, boxes[index], colours[index], width, original)
    if style.labels:
        labels = []
        scores = instances.scores.tolist()
        names = instances.names
        for index in best_first:
            number = None if style.ids is None else int(style.ids[index])
            region = None if style.boxes else regions.get(index)
            anchor = boxes[index] if region is None else region.box
            labels.append(
                Label(style.label(names[index], scores[index], number), colours[index], anchor, region)
            )
        draw_labels(drawn, labels, letters_for(picture.size, style.font))
    return drawn


def draw_panoptic(picture: Image.Image, instances: Instances, style: Style = _PLAIN) -> Image.Image:
    """Each segment in its colour with a dark border, and its name inside its largest piece.

    Things have their scores beside their names. Arguments, result and errors are those of `draw`.
    """
    panoptic = instances.panoptic
    assert panoptic is not None
    ids = panoptic.segment_map.numpy()
    pieces = largest_pieces(ids)
    segments = [segment for segment in panoptic.segments if segment.id in pieces]
    colours = _segment_colours(instances, panoptic, style)
    pixels = np.array(picture)
    _fill_segments(pixels, ids, {segment.id: colours[segment.id] for segment in segments})
    pixels[_borders(ids, _line_width(picture.size))] = _BORDER
    drawn = Image.fromarray(pixels)
    if style.labels:
        labels = [
            Label(
                style.label(_name(instances, segment), segment.score, _number(segment, style)),
                colours[segment.id],
                pieces[segment.id].box,
                pieces[segment.id],
            )
            for segment in sorted(segments, key=lambda segment: -int(pieces[segment.id].mask.sum()))
        ]
        draw_labels(drawn, labels, letters_for(picture.size, style.font))
    return drawn


def _regions(instances: Instances) -> dict[int, Region]:
    found = ((index, Region.of(mask)) for index, mask in enumerate(_masks(instances)))
    return {index: region for index, region in found if region is not None}


def _masks(instances: Instances) -> Iterator[Array]:
    if instances.masks is not None:
        yield from instances.masks.numpy()
    elif instances.rles is not None:
        from pycocotools.mask import decode

        for rle in instances.rles:
            yield decode(rle).astype(bool)


def _line_width(size_wh: tuple[int, int]) -> int:
    least = 2 if min(size_wh) >= 200 else 1  # in all but thumbnails a rim must not outdo the line
    return max(least, round(min(math.sqrt(size_wh[0] * size_wh[1]) / 250, min(size_wh) / 60)))


def _in_picture(box: list[float], size_wh: tuple[int, int]) -> Box:
    """Whole pixels of a box, one at least, in the picture."""
    width, height = size_wh
    x0, y0, x1, y1 = (round(v) for v in box)
    x1, y1 = min(max(x0 + 1, x1), width), min(max(y0 + 1, y1), height)
    return max(0, min(x0, x1 - 1)), max(0, min(y0, y1 - 1)), max(1, x1), max(1, y1)


def _draw_box(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, width: int, original: Array) -> None:
    """Lines along the inside of the box; a box that has no room for them is filled."""
    x0, y0, x1, y1 = box
    if min(x1 - x0, y1 - y0) <= 2 * width:  # Pillow would draw beyond the box
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
        return
    pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=width)
    part = original[y0:y1, x0:x1]
    beneath = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    rim, thin = rim_of(colour, beneath), max(1, width // 2)
    if rim is not None and min(x1 - x0, y1 - y0) > 2 * (width + thin):
        pen.rectangle((x0 + width, y0 + width, x1 - 1 - width, y1 - 1 - width), outline=rim, width=thin)


def _name(instances: Instances, segment: Segment) -> str:
    names = instances.categories.things if segment.is_thing else instances.categories.stuff
    return names[segment.class_index]


def _number(segment: Segment, style: Style) -> int | None:
    """The id that was given to the instance behind a segment."""
    return None if style.ids is None or segment.instance is None else int(style.ids[segment.instance])


def _segment_colours(instances: Instances, panoptic: PanopticResult, style: Style) -> dict[int, Colour]:
    """Of each segment's id its colour; stuff always has its class's."""
    things = len(instances.categories.things)
    keys = style.keys(instances.classes.tolist())
    colours = {}
    for place, segment in enumerate(panoptic.segments):
        key = segment.class_index + (0 if segment.is_thing else things)
        if segment.is_thing and segment.instance is not None:
            key = keys[segment.instance]
        elif segment.is_thing and style.colour_by == "instance":
            key = place
        colours[segment.id] = class_colour(key)
    return colours


def _fill_segments(pixels: Array, ids: Array, colours: dict[int, Colour]) -> None:
    known = np.array(sorted(colours), ids.dtype)
    if len(known) == 0:
        return
    places = np.searchsorted(known, ids).clip(max=len(known) - 1)
    places[known[places] != ids] = len(known)  # what belongs to no segment stays as it is
    opacity = np.full(len(known) + 1, _SEGMENT_FILL, np.float32)
    opacity[-1] = 0
    table = np.array([*(colours[number] for number in known.tolist()), _BORDER], np.float32)
    kept = (1 - opacity)[places]
    for channel in range(3):
        laid = (opacity * table[:, channel])[places]
        pixels[:, :, channel] = np.rint(kept * pixels[:, :, channel] + laid).astype(np.uint8)


def _borders(ids: Array, width: int) -> Array:
    """Where segments meet: lines so many pixels wide."""
    edges = np.zeros(ids.shape, dtype=bool)
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edges[1:] |= ids[1:] != ids[:-1]
    for _ in range(width - 1):
        wider = edges.copy()
        wider[:, :-1] |= edges[:, 1:]
        wider[:-1] |= edges[1:]
        edges = wider
    return edges
