"""Test-time augmentation on tiny models; its numbers are held by the golden files."""

from __future__ import annotations

import pytest
import torch

from resnest_zoo.errors import ConfigError, ImageError, ShapeError, ZooError
from resnest_zoo.inference.tta import TTA, _View
from resnest_zoo.ops.rle import encode_masks
from tests.models.tiny import CASCADE, MASK, NOTHING_FOUND, PANOPTIC, RESNEST, picture, tiny_model


def test_boxes_travel_to_a_view_and_back():
    boxes = torch.tensor([[3.0, 4.0, 10.0, 9.0], [0.0, 0.0, 50.0, 30.0]], dtype=torch.float64)
    for flipped in (False, True):
        view = _View(torch.zeros(3, 60, 75, dtype=torch.uint8), flipped, (30, 50))
        assert torch.allclose(view.to_original(view.from_original(boxes)), boxes, rtol=1e-12)
    assert view.from_original(boxes).tolist() == [[60.0, 8.0, 70.5, 18.0], [0.0, 0.0, 75.0, 60.0]]


def test_one_view_is_the_detector_itself():
    model = tiny_model(*MASK)
    image = picture(64, 96)
    (expected,) = model([image])
    (got,) = TTA(model, [64], 96, flip=False)([image])
    # Suppressing what was suppressed already changes nothing.
    assert torch.allclose(got.boxes, expected.boxes, rtol=0, atol=1e-9)
    assert torch.equal(got.classes, expected.classes)
    assert torch.allclose(got.scores, expected.scores, rtol=0, atol=1e-9)
    assert torch.equal(got.masks, expected.masks)


@pytest.mark.parametrize("kind", [(*MASK, *RESNEST), (*CASCADE, *MASK), PANOPTIC])
def test_a_mirrored_picture_gives_the_mirrored_result(kind):
    """With both mirror images among the views neither side is special."""
    model = tiny_model(*kind)
    image = picture(64, 96)
    tta = TTA(model, [48, 64], 96)
    (found,), (mirrored,) = tta([image]), tta([image.flip(2)])
    assert len(found) > 3
    back = mirrored.boxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1]) + torch.tensor([96.0, 0, 96, 0])
    assert torch.allclose(back, found.boxes, rtol=0, atol=1e-6)
    assert torch.allclose(mirrored.scores, found.scores, rtol=0, atol=1e-9)
    assert (mirrored.masks.flip(2) != found.masks).float().mean() < 0.01
    assert found.panoptic is None


@pytest.mark.parametrize("kind", [(), MASK, PANOPTIC], ids=["faster", "mask", "panoptic"])
def test_its_raw_result_is_finished_like_the_detectors(kind):
    model = tiny_model(*kind)
    tta = TTA(model, [48, 64], 96)
    raw = tta.run(picture(50, 70))
    assert raw.size == (50, 70)
    assert raw.semantic is None
    assert not raw.detections.boxes.requires_grad
    (whole,) = tta([picture(50, 70)])
    threshold = float(whole.scores[1])
    for encoded in (False, True):
        found = model.finish(raw, threshold, encoded=encoded)
        strong = whole.above(threshold)
        assert torch.equal(found.boxes, strong.boxes)
        assert torch.equal(found.scores, strong.scores)
        assert torch.equal(found.classes, strong.classes)
        assert found.panoptic is None
        if encoded and kind:
            assert list(found.rles) == encode_masks(strong.masks)
        elif kind:
            assert torch.equal(found.masks, strong.masks)


def test_results_are_in_each_pictures_own_pixels():
    tta = TTA(tiny_model(*MASK), [48, 64, 80], 120)
    for found, size in zip(tta([picture(50, 70), picture(31, 20)]), [(50, 70), (31, 20)], strict=True):
        assert found.image_size == size
        assert found.masks.shape == (len(found), *size)
        assert len(found) > 0
        assert (found.scores.diff() <= 0).all()


def test_nothing_found_is_an_empty_result():
    (found,) = TTA(tiny_model(*MASK, *NOTHING_FOUND), [48, 64], 96)([picture(50, 70)])
    assert len(found) == 0
    assert found.masks.shape == (0, 50, 70)


def test_results_are_ordinary_tensors():
    (found,) = TTA(tiny_model(*MASK), [48], 96)([picture(50, 70)])
    found.boxes.mul_(2)


def test_a_threshold_leaves_out_the_weaker():
    tta = TTA(tiny_model(*MASK), [48, 64], 96)
    (everything,) = tta([picture(50, 70)])
    (strong,) = tta([picture(50, 70)], score_threshold=float(everything.scores[1]))
    assert torch.equal(strong.boxes, everything.boxes[:2])
    assert torch.equal(strong.masks, everything.masks[:2])


@pytest.mark.parametrize(
    "options",
    [{"min_sizes": []}, {"min_sizes": [48, -5]}, {"min_sizes": [0]}, {"max_size": 0}, {"min_sizes": [4.5]}],
)
def test_sizes_that_no_view_can_have_are_refused(options):
    with pytest.raises(ConfigError, match="expected whole numbers of pixels above 0"):
        TTA(tiny_model(), **options)


def test_what_is_no_model_is_refused():
    with pytest.raises(ConfigError, match=r"expected a model, got 'mask'; resnest_zoo\.get builds one"):
        TTA("mask")


def test_no_pictures_no_results():
    assert TTA(tiny_model(), [48], 96)([]) == []


def test_what_the_model_refuses_is_refused():
    model = tiny_model()
    tta = TTA(model, [48], 96)
    with pytest.raises(ImageError, match="image 1: expected uint8"):
        tta([picture(8, 8), torch.rand(3, 8, 8)])
    with pytest.raises(ShapeError, match=r"pass \[image\]"):
        tta(picture(8, 8))
    model.train()
    with pytest.raises(ZooError, match="training mode"):
        tta([picture(8, 8)])
