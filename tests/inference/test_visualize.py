"""Drawings show boxes, masks, segments and labels where they are, and nothing else changes."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.errors import ConfigError
from resnest_zoo.inference.drawing.colours import patch_of
from resnest_zoo.inference.visualize import Style, class_colour, draw, draw_instances, draw_panoptic
from resnest_zoo.ops.rle import encode_masks
from resnest_zoo.structures import Instances, PanopticResult, Segment

GREY = (30, 30, 30)  # every class's colour is well seen on it
Array = np.ndarray[Any, Any]


def picture(width: int = 240, height: int = 160) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def found(
    boxes: list[list[float]],
    size: tuple[int, int] = (160, 240),
    classes: list[int] | None = None,
    masks: Array | None = None,
    categories: Categories = COCO,
) -> Instances:
    count = len(boxes)
    return Instances(
        torch.tensor(boxes).reshape(-1, 4),
        torch.linspace(0.9, 0.5, max(count, 1))[:count],
        torch.tensor(classes if classes is not None else range(count), dtype=torch.int64),
        size,
        categories,
        None if masks is None else torch.from_numpy(masks),
    )


def drawn(instances: Instances) -> Array:
    height, width = instances.image_size
    return np.asarray(draw_instances(picture(width, height), instances))


def changed(pixels: Array) -> Array:
    return (pixels != GREY).any(axis=2)


def test_a_box_is_drawn_on_its_own_outermost_pixels() -> None:
    pixels = drawn(found([[50.0, 60.0, 120.0, 130.0]]))
    colour = class_colour(0)
    box = pixels[60:130, 50:120]
    for edge in (box[0], box[-1], box[:, 0], box[:, -1]):
        assert (edge == colour).all()
    assert not changed(box[1:-1, 1:-1]).any()
    around = changed(pixels)
    around[:130, 50:] = False  # the label stands above and may be wider
    assert not around.any()


def test_each_class_has_its_own_colour_always() -> None:
    colours = [class_colour(k) for k in range(80)]
    assert len(set(colours)) == 80
    assert colours == [class_colour(k) for k in range(80)]
    # Neighbouring classes must be told apart at a glance.
    steps = [np.abs(np.subtract(a, b)).max() for a, b in itertools.pairwise(colours)]
    assert min(steps) > 60


def test_masks_are_blended_where_they_are_and_nowhere_else() -> None:
    mask = np.zeros((1, 160, 240), bool)
    mask[0, 90:110, 100:140] = True
    pixels = drawn(found([[80.0, 80.0, 160.0, 120.0]], masks=mask))
    light = np.rint(0.75 * np.array(GREY) + 0.25 * np.array(class_colour(0)))
    assert (pixels[91:109, 101:139] == light).all()
    assert not changed(pixels[82:89, 82:158]).any()
    # The outline stands on the mask's own outermost pixels, and is stronger by far.
    strong = np.rint(0.1 * light + 0.9 * np.array(class_colour(0)))
    for edge in (pixels[90, 100:140], pixels[109, 100:140], pixels[90:110, 100], pixels[90:110, 139]):
        assert (edge == strong).all()


def test_the_best_detection_lies_on_top() -> None:
    pixels = drawn(found([[40.0, 40.0, 120.0, 120.0], [40.0, 40.0, 120.0, 120.0]], classes=[5, 9]))
    assert tuple(pixels[119, 80]) == class_colour(5)


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    assert not changed(drawn(found([]))).any()
    assert not changed(drawn(found([], masks=np.zeros((0, 160, 240), bool)))).any()


def test_the_input_is_not_modified_and_the_drawing_is_the_same_again() -> None:
    image = picture()
    instances = found([[5.0, 5.0, 100.0, 100.0]], masks=np.ones((1, 160, 240), bool))
    first, second = draw_instances(image, instances), draw_instances(image, instances)
    assert image.getcolors() == [(240 * 160, GREY)]
    assert first.tobytes() == second.tobytes()
    assert first.size == image.size


def label_pixels(pixels: Array, boxes: list[list[float]]) -> Array:
    """Where something is drawn that is neither the outline of a box nor untouched."""
    marked = changed(pixels)
    for x0, y0, x1, y1 in (map(round, box) for box in boxes):
        outline = np.zeros_like(marked)
        outline[y0:y1, x0:x1] = True
        outline[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = False
        marked &= ~outline
    return marked


@pytest.mark.parametrize(
    "box",
    [
        [0.0, 0.0, 240.0, 160.0],
        [0.0, 0.0, 20.0, 20.0],
        [215.0, 0.0, 240.0, 20.0],
        [230.0, 100.0, 240.0, 160.0],
        [0.0, 155.0, 4.0, 160.0],
        [239.4, 159.4, 240.0, 160.0],
        [100.0, 3.0, 140.0, 90.0],
    ],
)
def test_labels_are_whole_also_at_the_border(box: list[float]) -> None:
    # A label in the middle of a picture shows its full size.
    middle = label_pixels(drawn(found([[100.0, 80.0, 101.0, 81.0]])), [[100.0, 80.0, 101.0, 81.0]])
    rows, cols = middle.nonzero()
    height, width = np.ptp(rows) + 1, np.ptp(cols) + 1
    pixels = drawn(found([box]))
    colour_or_ink = (
        (pixels == class_colour(0)).all(axis=2) | (pixels.max(axis=2) < 60) | (pixels.min(axis=2) > 200)
    )
    runs = np.lib.stride_tricks.sliding_window_view(changed(pixels), (height, width)).all(axis=(2, 3))
    assert runs.any(), "no patch of the label's full size"
    assert colour_or_ink.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (2, 2), (3, 7), (9, 9), (40, 40), (300, 20_000)])
def test_pictures_of_any_size_can_be_drawn_into(size: tuple[int, int]) -> None:
    height, width = size
    masks = np.ones((1, height, width), bool)
    pixels = drawn(found([[0.0, 0.0, float(width), float(height)]], size=size, masks=masks))
    assert pixels.shape == (height, width, 3)
    assert changed(pixels).any()


def test_a_box_thinner_than_a_pixel_can_be_drawn() -> None:
    for box in ([10.2, 10.2, 10.3, 150.0], [239.9, 0.0, 240.0, 160.0], [0.0, 159.9, 240.0, 160.0]):
        assert changed(drawn(found([box]))).any()


def test_names_of_any_script_and_length_can_be_drawn() -> None:
    names = ("犬", "ein sehr langer Name " * 20, "a\nb", "")
    drawn(found([[10.0, 10.0, 50.0, 50.0]] * 4, categories=Categories.named(names)))


def test_lines_and_letters_grow_with_the_picture() -> None:
    box = [200.0, 1000.0, 1800.0, 1800.0]
    large = changed(drawn(found([box], size=(2000, 2000))))
    assert large[1400, 200:208].all()  # eight pixels thick
    assert large[900:1000, 200:400].any(axis=1).sum() > 40  # the label's height


# --- panoptic ------------------------------------------------------------------------------------------


def panoptic(ids: Array, segments: tuple[Segment, ...]) -> Instances:
    result = PanopticResult(torch.from_numpy(ids), segments, torch.zeros(ids.shape, dtype=torch.int64))
    empty = torch.zeros(0)
    return Instances(
        empty.reshape(0, 4),
        empty,
        empty.long(),
        ids.shape,
        COCO_PANOPTIC,
        panoptic=result,  # type: ignore[arg-type]
    )


def test_segments_have_colours_outlines_and_names() -> None:
    ids = np.zeros((160, 240), np.int32)
    ids[:, :120], ids[:80, 120:] = 1, 2  # the corner at the lower right stays undecided
    instances = panoptic(ids, (Segment(1, True, 0, 1), Segment(2, False, 3, 1)))
    pixels = np.asarray(draw_panoptic(picture(), instances))
    for at, index in (((10, 10), 0), ((10, 230), len(COCO.things) + 3)):
        expected = np.rint(0.6 * np.array(GREY) + 0.4 * np.array(class_colour(index)))
        assert (pixels[at] == expected).all()
    assert tuple(pixels[120, 200]) == GREY
    assert (pixels[5:30, 120] == 20).all()  # the border between the two
    assert (pixels[80, 150:230] == 20).all()
    # The label stands in the middle of its segment, in the segment's own colour or near it, unblended.
    assert (pixels[70:90, 40:80] == patch_of(class_colour(0))).all(axis=2).sum() > 100


def test_a_name_stands_on_its_own_segment_even_if_that_is_a_ring() -> None:
    ids = np.full((160, 240), 1, np.int32)
    ids[20:140, 30:210] = 2
    pixels = np.asarray(
        draw_panoptic(picture(), panoptic(ids, (Segment(1, False, 1, 1), Segment(2, False, 2, 1))))
    )
    label = (pixels == patch_of(class_colour(len(COCO.things) + 1))).all(axis=2)
    rows, cols = label.nonzero()
    assert len(rows) > 50
    assert rows.min() < 20 or rows.max() >= 140 or cols.min() < 30 or cols.max() >= 210


def test_a_segment_without_pixels_is_passed_over() -> None:
    ids = np.ones((20, 20), np.int32)
    segments = (Segment(1, True, 0, 400), Segment(2, False, 1, 0))
    assert draw_panoptic(picture(20, 20), panoptic(ids, segments)).size == (20, 20)


def test_a_map_without_segments_leaves_the_picture_as_it_is() -> None:
    pixels = np.asarray(draw_panoptic(picture(), panoptic(np.zeros((160, 240), np.int32), ())))
    assert not changed(pixels).any()


# --- choices -------------------------------------------------------------------------------------------


def two_with_masks() -> Instances:
    masks = np.zeros((2, 160, 240), bool)
    masks[0, 40:80, 30:90] = True
    masks[1, 90:140, 140:200] = True
    return found([[30.0, 40.0, 90.0, 80.0], [140.0, 90.0, 200.0, 140.0]], classes=[3, 3], masks=masks)


def styled(**choices: Any) -> Array:
    return np.asarray(draw(picture(), two_with_masks(), Style(**choices)))


def test_nothing_wanted_leaves_the_picture_as_it_is() -> None:
    assert not changed(styled(boxes=False, masks=False, labels=False)).any()


def test_masks_boxes_and_labels_are_drawn_only_where_wanted() -> None:
    alone = [
        changed(styled(**{"boxes": False, "masks": False, "labels": False, kind: True}))
        for kind in ("boxes", "masks", "labels")
    ]
    for one, other in itertools.combinations(alone, 2):
        assert (one != other).any()
    assert alone[0][40, 30:90].all()
    assert not alone[0][45:75, 35:85].any()
    assert alone[1][40:80, 30:90].all()
    assert alone[1].sum() == 40 * 60 + 50 * 60
    whole = changed(styled())
    assert (whole >= alone[0] | alone[1]).all()
    assert whole.sum() > (alone[0] | alone[1]).sum()


def test_labels_without_scores_are_shorter() -> None:
    with_scores, without = (
        changed(styled(boxes=False, masks=False, scores=scores)).sum() for scores in (True, False)
    )
    assert 0 < without < 0.8 * with_scores


def test_instances_of_one_class_share_its_colour_or_have_their_own() -> None:
    def edges(**choices: Any) -> list[tuple[int, ...]]:
        pixels = styled(labels=False, masks=False, **choices)
        return [tuple(pixels[79, 60].tolist()), tuple(pixels[139, 170].tolist())]

    assert edges() == [class_colour(3)] * 2
    assert edges(colour_by="instance") == [class_colour(0), class_colour(1)]
    assert edges(ids=[7, 41]) == [class_colour(7), class_colour(41)]
    assert edges(ids=torch.tensor([7, -1])) == [class_colour(7), class_colour(-1)]
    assert len(set(class_colour(-1))) == 1  # what is not tracked is grey


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"colour_by": "size"}, "colour_by: expected class or instance, got 'size'"),
        ({"backend": "cv2"}, "backend: expected pillow or supervision, got 'cv2'"),
        ({"ids": [1]}, "ids: expected one for each of the 2 instances, got 1"),
        ({"font": "/nowhere.ttf"}, "font: expected a TrueType or OpenType file, got '/nowhere.ttf'"),
    ],
)
def test_a_wrong_choice_is_one_sentence(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        styled(**choices)


def test_a_better_detection_lies_on_top_in_whatever_order() -> None:
    instances = found([[40.0, 40.0, 120.0, 120.0], [40.0, 40.0, 120.0, 120.0]], classes=[5, 9])
    pixels = drawn(instances[[1, 0]])
    assert tuple(pixels[119, 80]) == class_colour(5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_run_lengths_are_drawn_as_masks_are() -> None:
    instances = two_with_masks()
    assert instances.masks is not None
    packed = replace(instances, masks=None, rles=tuple(encode_masks(instances.masks)))
    assert (drawn(packed) == drawn(instances)).all()


def test_a_panoptic_result_is_drawn_as_segments_or_as_instances() -> None:
    ids = np.zeros((160, 240), np.int32)
    ids[:, :120] = 1
    result = panoptic(ids, (Segment(1, False, 0, 1),))
    assert (np.asarray(draw(picture(), result)) == np.asarray(draw_panoptic(picture(), result))).all()
    assert not changed(np.asarray(draw(picture(), result, Style(panoptic=False)))).any()
    assert not changed(np.asarray(draw(picture(), result, Style(masks=False)))).any()


def test_things_of_one_class_are_told_apart_by_choice() -> None:
    ids = np.full((160, 240), 1, np.int32)
    ids[:, 120:] = 2
    result = panoptic(ids, (Segment(1, True, 4, 1), Segment(2, True, 4, 1)))
    by_class, by_instance = (
        np.asarray(draw_panoptic(picture(), result, Style(colour_by=choice, labels=False)))
        for choice in ("class", "instance")
    )
    assert (by_class[10, 10] == by_class[10, 230]).all()
    assert (by_instance[10, 10] != by_instance[10, 230]).any()


def test_given_ids_colour_and_number_the_things_of_a_panoptic_picture() -> None:
    ids = np.full((160, 240), 1, np.int32)
    ids[:, 120:] = 2
    segments = (Segment(1, True, 4, 1, 0.9, 1), Segment(2, True, 4, 1, 0.8, 0))
    boxes = torch.tensor([[120.0, 0, 240, 160], [0.0, 0, 120, 160]])
    result = replace(
        panoptic(ids, segments), boxes=boxes, scores=torch.tensor([0.8, 0.9]), classes=torch.tensor([4, 4])
    )
    plain, numbered = (
        np.asarray(draw_panoptic(picture(), result, Style(ids=[11, 7], labels=labels)))
        for labels in (False, True)
    )
    for at, number in (((10, 10), 7), ((10, 230), 11)):
        assert (plain[at] == np.rint(0.6 * np.array(GREY) + 0.4 * np.array(class_colour(number)))).all()
    unnumbered = np.asarray(draw_panoptic(picture(), result))
    widths = [
        (drawing != under).any(axis=2).any(axis=0).sum()
        for drawing, under in (
            (numbered, plain),
            (unnumbered, np.asarray(draw_panoptic(picture(), result, Style(labels=False)))),
        )
    ]
    assert widths[0] > widths[1] + 10  # "#7 " and "#11 " stand before the names


@pytest.mark.parametrize("size", [(1, 1), (40, 40), (300, 20_000)])
def test_panoptic_pictures_of_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    ids = np.ones(size, np.int32)
    ids[size[0] // 2 :] = 2
    result = panoptic(ids, (Segment(1, False, 0, 1), Segment(2, False, 1, 1)))
    assert draw_panoptic(picture(size[1], size[0]), result).size == (size[1], size[0])
