"""Labels: texts on patches of their object's colour, with lines to objects that they do not touch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from resnest_zoo.inference.drawing.colours import Colour, ink_on, patch_of
from resnest_zoo.inference.drawing.letters import SMALLEST, Letters
from resnest_zoo.inference.drawing.masks import Region
from resnest_zoo.inference.drawing.placement import Box, Placed, Room, Wanted, place_all
from resnest_zoo.inference.drawing.segments import deepest, nearest, places_inside

_CROWDED = 0.8  # of the size, where not all labels find room
_FULL = 0.5  # of a picture is more than labels by objects can fill: the larger letters are not even tried
_NOTE: Colour = (40, 40, 40)


@dataclass(frozen=True)
class Label:
    """What shall be said of an object.

    Attributes:
        texts: the whole one, then shorter ones.
        colour: of the patch.
        anchor: box of the object, inside the picture.
        piece: where the label should stand; None: beside or in the box.
    """

    texts: tuple[str, ...]
    colour: Colour
    anchor: Box
    piece: Region | None = None


@dataclass(frozen=True)
class Arrangement:
    """Labels that found their places.

    Attributes:
        letters: which they all have.
        placed: a place, and the text that has room there, for each label that found one.
        dropped: how many found none.
        note: where their number is told; None where none was dropped, or this has no room either.
    """

    letters: Letters
    placed: tuple[tuple[Placed, str], ...]
    dropped: int = 0
    note: Box | None = None


def arrange(labels: Sequence[Label], size_wh: tuple[int, int], letters: Letters) -> Arrangement:
    """Find places for labels, the first ones best; with smaller letters where not all find one."""
    smaller = letters.scaled(_CROWDED)
    sizes = [_size(label.texts[-1], letters) for label in labels]
    if sum(width * height for width, height in sizes) < _FULL * size_wh[0] * size_wh[1]:
        for some in (letters, smaller) if smaller.size < letters.size else (letters,):
            found = _arrange(labels, size_wh, some, whole=True)
            if found is not None:
                return found
    width, height = _size(f"+{len(labels)}", smaller)
    fits = width <= size_wh[0] and height <= size_wh[1]
    note = (size_wh[0] - width, size_wh[1] - height, *size_wh) if fits else None
    last = _arrange(labels, size_wh, smaller, note)
    assert last is not None
    return last if last.dropped else replace(last, note=None)


def _arrange(
    labels: Sequence[Label],
    size_wh: tuple[int, int],
    letters: Letters,
    note: Box | None = None,
    *,
    whole: bool = False,
) -> Arrangement | None:
    room = Room(size_wh, [label.anchor for label in labels])
    if note is not None:
        room.take(note)
    texts = [_forms(label, size_wh[0], letters) for label in labels]
    wanted = []
    for label, forms in zip(labels, texts, strict=True):
        sizes = tuple(_size(text, letters) for text in forms)
        inside = places_inside(label.piece, sizes[0]) if label.piece is not None and sizes else ()
        wanted.append(Wanted(_anchor(label, sizes), sizes, inside))
    placed = place_all(room, wanted, whole=whole)
    if placed is None:
        return None
    told = tuple((place, texts[place.index][place.form]) for place in placed)
    return Arrangement(letters, told, len(labels) - len(placed), note)


def _anchor(label: Label, sizes: tuple[tuple[int, int], ...]) -> Box:
    """Beside what a label should stand: of a large piece, which may wind, a part around its deepest pixel."""
    if label.piece is None or not sizes:
        return label.anchor
    x, y = deepest(label.piece)
    reach = sizes[0][1] * 2
    x0, y0, x1, y1 = label.anchor
    return max(x0, x - reach), max(y0, y - reach), min(x1, x + reach + 1), min(y1, y + reach + 1)


def _forms(label: Label, width: int, letters: Letters) -> list[str]:
    """Texts of a label that are not wider than the picture, each once."""
    room = width - 2 * _padding(letters)
    texts = [text for text in label.texts if letters.width(text) <= room]
    if not texts or texts[-1] != label.texts[-1]:
        texts.append(letters.cut(label.texts[-1], room))
    return [text for text in dict.fromkeys(texts) if text]


def _padding(letters: Letters) -> int:
    return max(1, letters.size // 7)


def _size(text: str, letters: Letters) -> tuple[int, int]:
    """(width, height) of a label."""
    left, top, right, bottom = letters.box(text)
    padding = _padding(letters)
    return right - left + 2 * padding, bottom - top + 2 * padding


def draw_labels(picture: Image.Image, labels: Sequence[Label], letters: Letters) -> Arrangement:
    """Draw labels into a picture, which is changed; returns where they stand."""
    labels = [label for label in labels if label.texts[0]]
    found = arrange(labels, picture.size, letters)
    draw = ImageDraw.Draw(picture)
    for place, _ in found.placed:  # lines under all patches
        if not place.is_inside:
            _draw_leader(draw, labels[place.index], place.box, found.letters)
    for place, text in found.placed:
        _draw_patch(draw, place.box, text, patch_of(labels[place.index].colour), found.letters)
    if found.note is not None:
        _draw_patch(draw, found.note, f"+{found.dropped}", _NOTE, found.letters)
    return found


def _draw_patch(draw: ImageDraw.ImageDraw, box: Box, text: str, colour: Colour, letters: Letters) -> None:
    x0, y0, x1, y1 = box
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
    left, top, _, _ = letters.box(text)
    padding = _padding(letters)
    draw.text((x0 + padding - left, y0 + padding - top), text, fill=ink_on(colour), font=letters.font(text))


def _draw_leader(draw: ImageDraw.ImageDraw, label: Label, box: Box, letters: Letters) -> None:
    """A line from a label to its object, with a dot at the end; none where the label stands next to it."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = label.anchor
    if label.piece is not None:
        x, y = nearest(label.piece, ((x0 + x1) // 2, (y0 + y1) // 2))
    elif x0 <= right and x1 >= left and y0 <= bottom and y1 >= top:
        return
    else:
        x, y = min(max((x0 + x1) // 2, left), right - 1), min(max((y0 + y1) // 2, top), bottom - 1)
    start = min(max(x, x0), x1 - 1), min(max(y, y0), y1 - 1)
    if max(abs(x - start[0]), abs(y - start[1])) <= max(3, letters.size // 3):  # near enough
        return
    width = max(1, letters.size // 10)
    for extra, colour in ((2, ink_on(label.colour)), (0, label.colour)):  # so that it is seen on any ground
        draw.line((*start, x, y), fill=colour, width=width + extra)
        reach = width + 1 + extra // 2
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)


def letters_for(size_wh: tuple[int, int], font: str | None = None) -> Letters:
    """Letters that can be read where the whole picture is seen at once: a fortieth of its side, or so."""
    width, height = size_wh
    return Letters(max(SMALLEST, min(math.sqrt(width * height) / 42, min(size_wh) / 6)), font)
