from __future__ import annotations

import numpy as np
import pytest
import torch

from resnest_zoo.categories import COCO, Categories
from resnest_zoo.errors import DataError, ShapeError
from resnest_zoo.models.targets import prepare_targets, read_targets, stack_semantic
from resnest_zoo.structures import ImageBatch, Targets

SIZES = ((20, 30), (16, 24))
BATCH = ImageBatch(torch.zeros(2, 3, 32, 32), SIZES)
BOXES = torch.tensor([[1.0, 2.0, 9.0, 8.0], [3.0, 3.0, 4.0, 15.0]])
CLASSES = torch.tensor([0, 4])
POLYGONS = [[[1.0, 2.0, 9.0, 2.0, 9.0, 8.0]], []]


def bitmasks(*size: int) -> torch.Tensor:
    return torch.ones(2, *size, dtype=torch.bool)


def semantic(*size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.int64)


GOOD = Targets(BOXES, CLASSES, POLYGONS, semantic(20, 30))
EMPTY = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), [], semantic(16, 24))


def prepare(first: Targets, *, masks: bool = True) -> list[Targets]:
    return prepare_targets([first, EMPTY], BATCH, 5, masks)


@pytest.mark.parametrize(
    "masks", [POLYGONS, bitmasks(20, 30), [[np.arange(6.0)], [np.arange(8.0), np.arange(6.0)]]]
)
def test_good_targets_pass(masks):
    first, second = prepare(Targets(BOXES, CLASSES, masks))
    assert torch.equal(first.boxes, BOXES)
    assert first.masks is masks or torch.equal(first.masks, masks)
    assert (len(first), len(second)) == (2, 0)


def test_masks_are_asked_for_only_where_the_model_learns_them():
    assert prepare(Targets(BOXES, CLASSES), masks=False)[0].masks is None


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_boxes_take_the_precision_of_the_batch_float32_at_least(dtype, expected):
    batch = ImageBatch(BATCH.tensor.to(dtype), SIZES)
    assert prepare_targets([GOOD, EMPTY], batch, 5, True)[0].boxes.dtype == expected


def test_everything_moves_to_the_device():
    moved = Targets(BOXES, CLASSES, bitmasks(20, 30), semantic(20, 30)).to("meta")
    assert {t.device.type for t in (moved.boxes, moved.classes, moved.masks, moved.semantic)} == {"meta"}
    assert GOOD.to("meta").masks is POLYGONS
    assert Targets(BOXES, CLASSES).to("meta").semantic is None


@pytest.mark.parametrize(
    ("target", "error", "complaint"),
    [
        (Targets(BOXES[:, :3], CLASSES), ShapeError, r"expected float boxes \(G, 4\), got .*\(2, 3\)"),
        (Targets(BOXES.long(), CLASSES), ShapeError, r"expected float boxes.*torch\.int64"),
        (Targets(BOXES, CLASSES[:1]), ShapeError, r"expected 2 int64 classes.*\(1,\)"),
        (Targets(BOXES, CLASSES.float()), ShapeError, r"int64 classes.*torch\.float32"),
        (Targets(BOXES, CLASSES + 1), DataError, "expected classes 0 … 4, got 5"),
        (Targets(BOXES, CLASSES - 1), DataError, "expected classes 0 … 4, got -1"),
        (Targets(BOXES.flip(1), CLASSES), DataError, r"x0 < x1.*got \[8\.0, 9\.0, 2\.0, 1\.0\]; leave"),
        (Targets(BOXES * float("nan"), CLASSES), DataError, "expected finite boxes"),
        (Targets(torch.tensor([[1.0, 1, 1, 5]]), CLASSES[:1]), DataError, "x0 < x1"),
        (Targets(BOXES, CLASSES), DataError, r"learns masks; set Targets\.masks"),
        (Targets(BOXES, CLASSES, bitmasks(30, 20)), ShapeError, r"masks \(2, 20, 30\), got .*\(2, 30, 20\)"),
        (Targets(BOXES, CLASSES, bitmasks(20, 30).float()), ShapeError, r"bool masks.*torch\.float32"),
        (Targets(BOXES, CLASSES, POLYGONS[:1]), ShapeError, "the polygons of 2 instances, got those of 1"),
        (Targets(BOXES, CLASSES, [[[1.0, 2, 3, 4]], []]), DataError, "at least three points, got 4 numbers"),
        (Targets(BOXES, CLASSES, [[[1.0] * 7], []]), DataError, "at least three points, got 7 numbers"),
    ],
)
def test_a_wrong_target_is_refused_by_message(target, error, complaint):
    with pytest.raises(error, match=f"targets of image 0: .*{complaint}"):
        prepare(target)


def test_every_picture_needs_its_targets():
    with pytest.raises(ShapeError, match="2 images but 1 targets"):
        prepare_targets([GOOD], BATCH, 5, True)


def test_semantic_maps_are_padded_with_what_is_ignored():
    first = Targets(BOXES, CLASSES, semantic=torch.arange(600).reshape(20, 30) % 7)
    stacked = stack_semantic([first, EMPTY], BATCH, 7, 255)
    assert stacked.shape == (2, 32, 32)
    assert stacked.dtype == torch.int64
    assert torch.equal(stacked[0, :20, :30], first.semantic)
    assert (stacked[0, 20:] == 255).all()
    assert (stacked[0, :, 30:] == 255).all()
    assert (stacked[1, :16, :24] == 0).all()
    assert (stacked[1] == 255).sum() == 32 * 32 - 16 * 24


@pytest.mark.parametrize(
    ("given", "error", "complaint"),
    [
        (None, DataError, r"learns semantic classes; set Targets\.semantic"),
        (semantic(30, 20), ShapeError, r"size \(20, 30\), got torch\.int64 \(30, 20\)"),
        (semantic(20, 30).int(), ShapeError, r"int64 semantic map.*got torch\.int32"),
        (semantic(20, 30) + 7, DataError, "classes 0 … 6 or 255 to ignore, got 7"),
        (semantic(20, 30) - 1, DataError, "got -1"),
    ],
)
def test_a_wrong_semantic_map_is_refused_by_message(given, error, complaint):
    batch = ImageBatch(BATCH.tensor, SIZES[::-1])
    targets = [EMPTY, Targets(BOXES, CLASSES, semantic=given)]
    with pytest.raises(error, match=f"targets of image 1: .*{complaint}"):
        stack_semantic(targets, batch, 7, 255)


# --- torchvision's dicts -------------------------------------------------------------------------------

GAPS = Categories(("cup", "dish", "jug"), (47, 3, 90))


def theirs(**changed: object) -> dict[str, object]:
    target = {"boxes": BOXES, "labels": torch.tensor([90, 47]), "masks": bitmasks(20, 30), "image_id": 7}
    return {key: value for key, value in {**target, **changed}.items() if value is not None}


def test_labels_are_category_ids():
    ours, (read,) = GOOD, read_targets([theirs()], GAPS)
    assert torch.equal(read.boxes, BOXES)
    assert read.classes.tolist() == [2, 0]
    assert torch.equal(read.masks, bitmasks(20, 30))
    assert read_targets([ours], GAPS) == [ours]
    named = Categories.named(["cup", "dish"])
    assert read_targets([theirs(labels=torch.tensor([1, 2]))], named)[0].classes.tolist() == [0, 1]
    assert read_targets([theirs(labels=torch.tensor([1, 90]))], COCO)[0].classes.tolist() == [0, 79]


def test_masks_of_zeros_and_ones_become_bool_and_may_be_missing():
    (read,) = read_targets([theirs(masks=bitmasks(20, 30).byte())], GAPS)
    assert read.masks.dtype == torch.bool
    assert read_targets([theirs(masks=None)], GAPS)[0].masks is None
    assert torch.equal(read_targets([theirs(semantic=semantic(20, 30))], GAPS)[0].semantic, semantic(20, 30))


def test_crowds_are_no_examples():
    for crowds in (torch.tensor([1, 0]), [1, 0]):
        (read,) = read_targets([theirs(iscrowd=crowds)], GAPS)
        assert read.classes.tolist() == [0]
        assert torch.equal(read.boxes, BOXES[1:])
        assert read.masks.shape == (1, 20, 30)
    assert len(read_targets([theirs(iscrowd=torch.tensor([1, 1]), masks=None)], GAPS)[0]) == 0


def test_a_picture_without_instances_is_no_problem():
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert len(read_targets([empty], GAPS)[0]) == 0


def test_tensors_that_know_their_format_are_taken_as_xyxy_alone():
    from torchvision import tv_tensors

    def boxes(form):
        return tv_tensors.BoundingBoxes(BOXES, format=form, canvas_size=(20, 30))

    target = theirs(boxes=boxes("XYXY"), masks=tv_tensors.Mask(bitmasks(20, 30)))
    (read,) = read_targets([target], GAPS)
    assert type(read.boxes) is type(read.masks) is torch.Tensor
    with pytest.raises(
        DataError, match=r"targets of image 0: expected boxes as XYXY, got XYWH; .*box_convert"
    ):
        read_targets([theirs(boxes=boxes("XYWH"))], GAPS)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (
            theirs(labels=torch.tensor([90, 2])),
            DataError,
            r"category ids \(47 cup, 3 dish, 90 jug\), got 2; 0 is",
        ),
        (theirs(labels=torch.tensor([90, 0])), DataError, "got 0; 0 is the background of torchvision"),
        (
            theirs(labels=torch.tensor([90.0, 47.0])),
            ShapeError,
            r"int64 labels \(G,\), got torch.float32 \(2,\)",
        ),
        (theirs(labels=[90, 47]), DataError, r"expected labels as a tensor, got \[90, 47\]"),
        (theirs(labels=None), DataError, "a dict with boxes and labels, got one of boxes, masks, image_id"),
        (
            theirs(masks=bitmasks(20, 30).byte() * 255),
            DataError,
            "uint8 of 0 and 1, got torch.uint8 up to 255",
        ),
        (theirs(masks=bitmasks(20, 30).float()), DataError, "uint8 of 0 and 1, got torch.float32"),
        (
            theirs(iscrowd=torch.tensor([0])),
            ShapeError,
            r"boxes, iscrowd and masks of 2 labels, got \[2, 1, 2\]",
        ),
        (BOXES, DataError, "expected Targets or torchvision's dict, got tensor"),
    ],
)
def test_wrong_dicts_are_told(target, error, message):
    with pytest.raises(error, match=f"targets of image 1: .*{message}"):
        read_targets([GOOD, target], GAPS)


def test_an_id_of_zero_is_no_label_even_where_there_is_such_a_category():
    with pytest.raises(DataError, match="got 0; 0 is the background"):
        read_targets([theirs(labels=torch.tensor([0, 1]))], Categories(("cup", "dish"), (0, 1)))
