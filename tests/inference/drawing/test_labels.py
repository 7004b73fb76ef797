"""Labels never lie on each other, stand inside the picture, and those without room are counted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from resnest_zoo.inference.drawing.colours import BLACK, WHITE, class_colour
from resnest_zoo.inference.drawing.labels import Arrangement, Label, arrange, draw_labels, letters_for
from resnest_zoo.inference.drawing.masks import Region
from resnest_zoo.inference.drawing.placement import Box

SIZES = [(1, 1), (7, 3), (40, 40), (100, 40), (640, 427), (20_000, 300), (300, 20_000), (4000, 3000)]
NAMES = ("person", "cat", "traffic light", "a name that is much longer than others are", "x")


def meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def crowd(count: int, size_wh: tuple[int, int], seed: int) -> list[Label]:
    """Objects of all sizes, half of them in one corner of the picture."""
    rng = np.random.default_rng(seed)
    labels = []
    for index in range(count):
        reach = np.array(size_wh) * (0.3 if index % 2 else 1)
        one, other = (rng.integers(0, np.maximum(1, reach)) for _ in range(2))
        x0, y0 = np.minimum(one, other).tolist()
        x1, y1 = (np.maximum(one, other) + 1).tolist()
        name = NAMES[index % len(NAMES)]
        labels.append(Label((f"{name} 97%", name), class_colour(index), (x0, y0, x1, y1)))
    return labels


def check(found: Arrangement, count: int, size_wh: tuple[int, int]) -> None:
    """What is promised of every arrangement."""
    boxes = [place.box for place, _ in found.placed]
    assert len(boxes) + found.dropped == count
    assert len({place.index for place, _ in found.placed}) == len(boxes)
    if found.note is not None:
        boxes.append(found.note)
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= size_wh[0]
        assert 0 <= y0 < y1 <= size_wh[1]
    assert not any(meet(one, other) for one, other in itertools.combinations(boxes, 2))
    for (x0, y0, x1, y1), (_, text) in zip(boxes, found.placed, strict=False):
        left, top, right, bottom = found.letters.box(text)
        assert right - left <= x1 - x0  # the text has room on its patch
        assert bottom - top <= y1 - y0


@pytest.mark.parametrize("size_wh", SIZES)
@pytest.mark.parametrize("count", [1, 12, 60])
def test_labels_of_crowds_never_meet(size_wh: tuple[int, int], count: int) -> None:
    for seed in range(3):
        found = arrange(crowd(count, size_wh, seed), size_wh, letters_for(size_wh))
        check(found, count, size_wh)


@pytest.mark.parametrize("seed", range(10))
def test_labels_of_crowds_never_meet_at_any_size(seed: int) -> None:
    rng = np.random.default_rng(seed + 100)
    width, height = (2 ** rng.uniform(0, 11, 2)).astype(int).tolist()
    count = int(rng.integers(1, 60))
    found = arrange(crowd(count, (width, height), seed), (width, height), letters_for((width, height)))
    check(found, count, (width, height))


def test_few_labels_all_find_room() -> None:
    for seed in range(10):
        assert arrange(crowd(8, (640, 427), seed), (640, 427), letters_for((640, 427))).dropped == 0


def test_many_labels_of_one_place_lead_there_until_there_is_no_room() -> None:
    size = (640, 427)
    same = [Label((f"cat {index}%",), class_colour(index), (300, 200, 310, 210)) for index in range(300)]
    found = arrange(same, size, letters_for(size))
    check(found, 300, size)
    assert len(found.placed) > 30
    assert found.dropped > 0
    assert found.note is not None


def test_a_crowd_that_finds_room_after_all_has_no_note() -> None:
    size = (120, 60)
    rows = [(x, y, x + 60, y + 12) for x in (0, 60) for y in range(0, 60, 12)][:9]
    labels = [Label(("person 97%",), class_colour(index), row) for index, row in enumerate(rows)]
    found = arrange(labels, size, letters_for(size))
    check(found, 9, size)
    assert (found.dropped, found.note) == (0, None)


def test_the_number_of_dropped_labels_is_drawn() -> None:
    size = (120, 60)
    labels = [Label(("person 97%",), class_colour(index), (10, 10, 50, 50)) for index in range(30)]
    picture = Image.new("RGB", size, "black")
    found = draw_labels(picture, labels, letters_for(size))
    assert found.dropped == 30 - len(found.placed) > 0
    assert found.note is not None
    corner = np.asarray(picture.crop(found.note))
    assert (corner == 40).all(axis=2).any()  # the patch
    assert (corner > 200).any()  # and figures on it


def test_a_picture_too_small_for_any_label_has_none() -> None:
    picture = Image.new("RGB", (5, 5), "black")
    found = draw_labels(picture, [Label(("person",), (200, 0, 0), (0, 0, 5, 5))], letters_for((5, 5)))
    assert (found.placed, found.dropped, found.note) == ((), 1, None)
    assert picture.getcolors() == [(25, (0, 0, 0))]


@pytest.mark.parametrize(
    ("name", "expected"), [("cat", "cat 97%"), ("oven", "oven"), ("traffic light", "tra")]
)
def test_a_small_picture_has_the_name_without_score_or_cut(name: str, expected: str) -> None:
    label = Label((f"{name} 97%", name), WHITE, (5, 5, 30, 30))
    ((_, text),) = arrange([label], (45, 40), letters_for((45, 40))).placed
    assert text.startswith(expected)
    assert text == expected or text.endswith("…")


def test_letters_are_readable_at_any_size() -> None:
    assert letters_for((40, 40)).size == 10
    assert letters_for((1, 1)).size == 10
    assert 12 <= letters_for((640, 480)).size <= 16
    assert 60 <= letters_for((4000, 3000)).size <= 100
    assert 30 <= letters_for((20_000, 300)).size <= 60  # not more than a sixth of the height


def test_a_label_covers_other_objects_only_where_it_must() -> None:
    small = (100, 80, 130, 98)  # right above the first, where a label would stand by itself
    labels = [Label(("cat",), WHITE, (100, 100, 300, 300)), Label(("dog",), WHITE, small)]
    found = arrange(labels, (640, 427), letters_for((640, 427)))
    assert not meet(found.placed[0][0].box, small)


def test_a_label_away_from_its_object_has_a_line_there() -> None:
    size, anchor = (400, 300), (195, 145, 205, 155)
    red = (255, 0, 0)
    labels = [Label(("a long name for one spot",), BLACK, anchor) for _ in range(12)]
    labels.append(Label(("far",), red, anchor))
    picture = Image.new("RGB", size, (90, 90, 90))
    found = draw_labels(picture, labels, letters_for(size))
    place = next(place for place, _ in found.placed if place.index == 12)
    pixels = np.asarray(picture)
    outside = (pixels == red).all(axis=2)
    x0, y0, x1, y1 = place.box
    assert not meet((x0 - 1, y0 - 1, x1 + 1, y1 + 1), anchor)
    outside[y0:y1, x0:x1] = False
    assert outside.sum() > 5


def test_a_label_of_a_piece_stands_inside_it() -> None:
    mask = np.zeros((100, 300), bool)
    mask[:, :20] = mask[60:, :] = True  # an L, whose middle lies outside
    piece = Region((20, 30, 320, 130), mask)
    label = Label(("grass",), WHITE, piece.box, piece)
    (place, _), *_ = arrange([label], (400, 300), letters_for((400, 300))).placed
    x0, y0, x1, y1 = place.box
    assert mask[y0 - 30 : y1 - 30, x0 - 20 : x1 - 20].all()


def test_a_label_inside_its_piece_has_no_line() -> None:
    picture = Image.new("RGB", (400, 300), BLACK)
    mask = np.ones((200, 300), bool)
    mask[60:70, 100:300] = False  # its deepest pixel is not where the label stands
    piece = Region((50, 50, 350, 250), mask)
    found = draw_labels(picture, [Label(("grass",), WHITE, piece.box, piece)], letters_for((400, 300)))
    pixels = np.array(picture)
    x0, y0, x1, y1 = found.placed[0][0].box
    pixels[y0:y1, x0:x1] = 0
    assert not pixels.any()


def test_a_label_that_has_no_room_in_its_piece_stands_by_it_with_a_line() -> None:
    picture = Image.new("RGB", (400, 300), BLACK)
    piece = Region((0, 148, 400, 151), np.ones((3, 400), bool))  # a wire
    car = Region((300, 50, 306, 56), np.ones((6, 6), bool))
    named = [("wire", piece), *[("car", car)] * 30]
    labels = [Label((name,), (250, 200, 0), p.box, p) for name, p in named]
    found = draw_labels(picture, labels, letters_for((400, 300)))
    wire, *by_car = (place.box for place, _ in found.placed)
    assert 120 < wire[1] < wire[3] < 180
    assert not meet(by_car[0], car.box)
    assert abs(by_car[0][0] - 300) < 80
    pixels = np.array(picture)
    for x0, y0, x1, y1 in (wire, *by_car):
        pixels[y0:y1, x0:x1] = 0
    assert (pixels == (250, 200, 0)).all(axis=2).sum() > 20  # the lines of those further away
