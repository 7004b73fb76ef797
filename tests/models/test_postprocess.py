from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from resnest_zoo.categories import Categories
from resnest_zoo.models.postprocess import rescale_detections, rescale_semantic
from resnest_zoo.ops.masks import paste_masks
from resnest_zoo.structures import Detections

NAMES = Categories.numbered(3)


def detections(boxes: list[list[float]], masks: bool = False) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.linspace(0.9, 0.5, count, dtype=torch.float64),
        torch.arange(count) % 3,
        (40, 60),
        torch.rand(count, 4, 4, dtype=torch.float64) if masks else None,
    )


def test_boxes_are_scaled_by_each_side_and_clipped():
    got = rescale_detections(detections([[10, 10, 20, 30], [50, 30, 60, 41]]), (80, 180), NAMES)
    assert got.boxes.tolist() == [[30, 20, 60, 60], [150, 60, 180, 80]]
    assert got.image_size == (80, 180)
    assert got.categories is NAMES
    assert got.masks is None


def test_the_threshold_acts_before_masks_are_pasted():
    raw = detections([[0, 0, 5, 5], [1, 1, 3, 3], [2, 2, 9, 9]], masks=True)
    got = rescale_detections(raw, (40, 60), NAMES, score_threshold=0.7)
    assert got.scores.tolist() == [0.9, 0.7]  # itself included
    assert len(got.boxes) == len(got.classes) == len(got.masks) == 2


def test_boxes_that_become_empty_fall_with_all_that_belongs_to_them():
    raw = detections([[0, 0, 5, 5], [7, 7, 7, 9], [60, 3, 80, 9], [1, 1, 3, 3]], masks=True)
    got = rescale_detections(raw, (40, 60), NAMES)
    assert got.boxes.tolist() == [[0, 0, 5, 5], [1, 1, 3, 3]]
    assert got.scores.tolist() == [0.9, 0.5]
    assert got.classes.tolist() == [0, 0]
    assert torch.equal(got.masks, paste_masks(raw.mask_probs[[0, 3]], got.boxes, (40, 60)))


@pytest.mark.parametrize("masks", [False, True])
def test_nothing_found_is_an_empty_result(masks):
    got = rescale_detections(detections([], masks), (8, 9), NAMES)
    assert len(got) == 0
    assert got.boxes.shape == (0, 4)
    assert got.names == []
    if masks:
        assert got.masks.shape == (0, 8, 9)
        assert got.masks.dtype == torch.bool


def test_the_semantic_map_leaves_the_padding_out():
    """Padding votes for class 2; stretched over the picture, none of it may show."""
    logits = torch.zeros(3, 8, 12)
    logits[2] = 9.0
    logits[:, :5, :6] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    logits[:, :5, 3:6] = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    got = rescale_semantic(logits, (5, 6), (10, 12))
    assert got.shape == (10, 12)
    assert got.dtype == torch.int64
    assert torch.equal(got, torch.tensor([[0] * 6 + [1] * 6] * 10))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (40, 61), (97, 203), (13, 400)])
def test_no_class_is_held_at_the_size_of_the_picture_with_the_others(dtype, size, monkeypatch):
    logits = torch.randn(54, 24, 36, dtype=dtype).round(decimals=1)  # with ties: the first class wins
    logits[7] = logits[5]
    cut = logits[None, :, :23, :31]
    expected = F.interpolate(cut, size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
    made = []
    interpolate = F.interpolate

    def watched(*args, **kwargs):
        made.append(interpolate(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(F, "interpolate", watched)
    assert torch.equal(rescale_semantic(logits, (23, 31), size), expected)
    assert {tuple(plane.shape[-2:]) for plane in made} == {size}
    assert max(plane.numel() for plane in made) == size[0] * size[1]


def test_logits_are_interpolated_not_classes():
    """Between a strong 0 and a weak 2 lies more 0."""
    logits = torch.zeros(3, 1, 2)
    logits[0, 0, 0], logits[2, 0, 1] = 3.0, 1.0
    assert rescale_semantic(logits, (1, 2), (1, 8)).tolist() == [[0, 0, 0, 0, 0, 2, 2, 2]]
