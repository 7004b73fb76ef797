from __future__ import annotations

import json
from itertools import groupby

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from resnest_zoo.errors import ShapeError, ZooError
from resnest_zoo.ops import rle
from resnest_zoo.ops.masks import paste_masks
from resnest_zoo.ops.rle import encode_masks, encode_pasted_masks
from tests.ops.test_masks import BOXES

SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (23, 31), (47, 36), (64, 101)]


def plain(mask: np.ndarray) -> dict[str, object]:
    """Runs counted pixel by pixel, compressed by pycocotools."""
    runs = [(value, len(list(group))) for value, group in groupby(mask.T.reshape(-1).tolist())]
    lengths = [length for _, length in runs]
    counts = [0, *lengths] if runs[0][0] else lengths
    (packed,) = coco_mask.frPyObjects([{"size": list(mask.shape), "counts": counts}], *mask.shape)
    return {"size": list(mask.shape), "counts": packed["counts"].decode()}


def pasted_whole(probs: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, object]]:
    """Pasted into whole pictures, (N, H, W), then encoded by pycocotools."""
    masks = np.asfortranarray(paste_masks(probs, boxes, size).numpy().transpose(1, 2, 0), np.uint8)
    encoded = coco_mask.encode(masks)
    return [{"size": list(size), "counts": one["counts"].decode()} for one in encoded]


def random_boxes(count: int, size: tuple[int, int], seed: int, dtype: torch.dtype) -> Tensor:
    """Of all scales, many of them over an edge, around the picture or away from it."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    limits = torch.tensor([width, height], dtype=torch.float64)
    centres = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.3) * limits
    logs = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 6 - 5
    sides = logs.exp() * limits.max()
    return torch.cat((centres - sides / 2, centres + sides / 2), dim=1).to(dtype)


def random_probs(count: int, side: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (
        (torch.randn(count, side, side, generator=generator, dtype=torch.float64) * 2 + 0.5)
        .sigmoid()
        .to(dtype)
    )


# --- masks of whole pictures -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_masks_are_encoded_as_a_loop_over_pixels_counts_them(size, share):
    masks = torch.rand(3, *size, generator=torch.Generator().manual_seed(7)) < share
    assert encode_masks(masks) == [plain(mask) for mask in masks.numpy()]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_masks_survive_json_and_decoding():
    masks = torch.rand(4, 13, 17, generator=torch.Generator().manual_seed(0)) < 0.4
    restored = json.loads(json.dumps(encode_masks(masks)))
    assert np.array_equal(coco_mask.decode(restored).transpose(2, 0, 1), masks.numpy())


def test_transposed_masks_are_encoded_as_they_look():
    masks = torch.rand(2, 11, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    assert encode_masks(masks.transpose(1, 2)) == encode_masks(masks.transpose(1, 2).contiguous())


def test_no_masks():
    assert encode_masks(torch.zeros(0, 4, 5, dtype=torch.bool)) == []


@pytest.mark.parametrize(
    ("masks", "complaint"),
    [
        (torch.zeros(4, 5, dtype=torch.bool), r"got torch.bool \(4, 5\)"),
        (torch.zeros(1, 4, 5), r"expected bool \(N, H, W\), got torch.float32"),
    ],
)
def test_other_tensors_are_refused(masks, complaint):
    with pytest.raises(ShapeError, match=complaint):
        encode_masks(masks)


# --- masks in boxes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [1, 2, 7, 28])
@pytest.mark.parametrize("size", SIZES)
def test_encoding_from_boxes_equals_pasting_and_encoding(size, side, dtype):
    count = rle._INSTANCES_AT_ONCE + 5
    probs = random_probs(count, side, 10 * side, dtype)
    boxes = random_boxes(count, size, side + size[0], dtype)
    assert encode_pasted_masks(probs, boxes, size) == pasted_whole(probs, boxes, size)


@pytest.mark.parametrize("kind", ["random", "full", "empty"])
def test_boxes_at_every_edge(kind):
    size = (23, 31)
    boxes = torch.tensor(list(BOXES.values()))
    probs = {"random": random_probs(len(boxes), 5, 3, torch.float32)}.get(kind)
    if probs is None:
        probs = torch.full((len(boxes), 5, 5), float(kind == "full"))
    assert encode_pasted_masks(probs, boxes, size) == pasted_whole(probs, boxes, size)


def test_runs_join_across_columns_of_a_window_as_high_as_the_picture():
    """All columns but the first two and the last three: one run."""
    got = encode_pasted_masks(torch.ones(1, 28, 28), torch.tensor([[2.0, -90, 8.0, 99]]), (9, 11))
    assert got == [plain(np.pad(np.ones((9, 6), bool), ((0, 0), (2, 3))))]


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_last_pixel_of_a_mask_and_the_first_of_the_next_are_kept_apart(value):
    probs, boxes = torch.full((3, 4, 4), value), torch.tensor([[-9.0, -9, 20, 20]] * 3)
    assert encode_pasted_masks(probs, boxes, (5, 6)) == [plain(np.full((5, 6), value >= 0.5))] * 3


def test_nothing_to_encode():
    assert encode_pasted_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)) == []


# --- where rounding decides ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("units", [0, 0.5, 1, 8])
def test_masks_that_differ_from_one_half_by_rounding(units, dtype):
    """Every pixel inside is in doubt."""
    noise = torch.rand(20, 28, 28, generator=torch.Generator().manual_seed(2), dtype=dtype) - 0.5
    probs = 0.5 + units * torch.finfo(dtype).eps * noise
    boxes = random_boxes(20, (64, 101), 5, dtype)
    assert encode_pasted_masks(probs, boxes, (64, 101)) == pasted_whole(probs, boxes, (64, 101))


@pytest.mark.parametrize("probs_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("boxes_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7, 11])
def test_masks_that_pass_one_half_at_pixel_centres(scale, probs_dtype, boxes_dtype):
    """Black and white masks in boxes on pixel centres, whose sides are multiples of the mask's."""
    generator = torch.Generator().manual_seed(scale)
    probs = (torch.rand(30, 8, 8, generator=generator) < 0.5).to(probs_dtype)
    corners = torch.randint(-8, 40, (30, 2), generator=generator).to(boxes_dtype) + 0.5
    boxes = torch.cat((corners, corners + 8 * scale), dim=1)
    assert encode_pasted_masks(probs, boxes, (53, 47)) == pasted_whole(probs, boxes, (53, 47))


@pytest.mark.parametrize("probs_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("boxes_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("upside_down", [False, True])
def test_masks_that_pass_one_half_within_rounding_of_a_pixel_centre(probs_dtype, boxes_dtype, upside_down):
    """Stripes of one row, in boxes of which one edge lies so that a stripe ends at a centre."""
    count, generator = 300, torch.Generator().manual_seed(3)
    probs = (torch.arange(8) % 2).to(probs_dtype)[None, :, None].repeat(count, 1, 8)
    centre = torch.randint(30, (count,), generator=generator) + 0.5
    gap = torch.rand(count, generator=generator, dtype=torch.float64)
    top = centre + 0.2 * gap if upside_down else centre - 15 * gap
    bottom = top + (centre - top) * 8 / torch.randint(1, 8, (count,), generator=generator)
    boxes = torch.stack((torch.full_like(top, 2.3), top, torch.full_like(top, 9.1), bottom), dim=1)
    boxes = boxes.to(probs_dtype).to(boxes_dtype)  # off by the rounding of the coarser
    assert encode_pasted_masks(probs, boxes, (47, 11)) == pasted_whole(probs, boxes, (47, 11))


@pytest.mark.parametrize(
    "box",
    [
        [3.0, 3, 3, 9],
        [3.0, 3, 9, 3],
        [3.5, 3, 3.5, 9],
        [3, 3.5, 9, 3.5],
        [5.6, 2, 5.4, 9],
        [2, 5.6, 9, 5.4],
        [9.0, 9, 2, 2],
    ],
)
def test_boxes_without_area(box):
    probs, boxes = random_probs(1, 6, 0, torch.float32), torch.tensor([box])
    assert encode_pasted_masks(probs, boxes, (12, 13)) == pasted_whole(probs, boxes, (12, 13))


@pytest.mark.parametrize("away", [0.0, 5000.0])
def test_boxes_far_from_the_origin(away):
    """There float32 boxes are coarse."""
    size = (6, 5100)
    boxes = random_boxes(40, (6, 60), 9, torch.float32) + torch.tensor([away, 0, away, 0])
    probs = random_probs(40, 28, 2, torch.float32).round()
    assert encode_pasted_masks(probs, boxes, size) == pasted_whole(probs, boxes, size)


def test_few_columns_are_sampled(monkeypatch):
    """What makes it fast: of smooth masks less than one column in twenty needs its pixels."""
    sampled: list[int] = []
    sample = rle.sample_masks
    monkeypatch.setattr(rle, "sample_masks", lambda *args: sampled.append(len(args[0])) or sample(*args))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing="ij")
    probs = ((0.7 - x**2 - 0.8 * y**2 - 0.3 * x * y) * 6).sigmoid().expand(30, 28, 28)
    boxes = torch.tensor([20.3, 30.7, 260.1, 190.2]) + torch.rand(
        30, 4, generator=torch.Generator().manual_seed(0)
    )
    assert rle.encode_with_numpy(probs, boxes, (240, 320)) == pasted_whole(probs, boxes, (240, 320))
    assert 0 < sum(sampled) < 30 * 240 / 20


# --- arguments -------------------------------------------------------------------------------------------


def test_probabilities_of_a_running_gradient():
    probs, boxes = random_probs(3, 7, 0, torch.float32), random_boxes(3, (23, 31), 0, torch.float32)
    want = encode_pasted_masks(probs, boxes, (23, 31))
    assert encode_pasted_masks(probs.requires_grad_(), boxes.requires_grad_(), (23, 31)) == want


def test_probabilities_cut_from_a_larger_tensor():
    larger, boxes = random_probs(6, 14, 0, torch.float32), random_boxes(3, (23, 31), 0, torch.float32)
    part = larger[::2, ::2, 1::2].transpose(1, 2)
    assert encode_pasted_masks(part, boxes, (23, 31)) == pasted_whole(part.contiguous(), boxes, (23, 31))


@pytest.mark.parametrize(
    ("probs", "boxes", "error", "complaint"),
    [
        ((2, 28), (2, 4), ShapeError, r"encode_pasted_masks: expected masks \(N, M, M\), got \(2, 28\)"),
        ((2, 28, 28), (3, 4), ShapeError, r"encode_pasted_masks: 2 masks but boxes \(3, 4\)"),
    ],
)
def test_wrong_shapes_are_named(probs, boxes, error, complaint):
    with pytest.raises(error, match=complaint):
        encode_pasted_masks(torch.zeros(probs), torch.zeros(boxes), (5, 6))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_boxes_that_are_not_finite_are_named(value):
    boxes = torch.tensor([[1.0, 2, 3, 4], [1.0, value, 3, 4]])
    with pytest.raises(
        ZooError, match=r"encode_pasted_masks: expected finite boxes, got \[1.0, .*\] as box 1"
    ):
        encode_pasted_masks(torch.ones(2, 7, 7), boxes, (5, 6))


@pytest.mark.gpu
def test_tensors_of_a_gpu_are_encoded_as_those_of_the_cpu():
    probs, boxes = random_probs(9, 28, 0, torch.float32), random_boxes(9, (64, 101), 0, torch.float32)
    want = encode_pasted_masks(probs, boxes, (64, 101))
    assert encode_pasted_masks(probs.cuda(), boxes.cuda(), (64, 101)) == want
    masks = paste_masks(probs, boxes, (64, 101))
    assert encode_masks(masks.cuda()) == encode_masks(masks)
