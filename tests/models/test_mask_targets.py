from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_zoo.models import mask_targets
from resnest_zoo.models.mask_targets import crop_masks

M = 14
TRIANGLE = [5.0, 5.0, 55.0, 10.0, 20.0, 60.0]


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def naive_crop(mask: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """ROIAlign with as many samples a bin as it has pixels: means of bilinear values, (side, side)."""
    height, width = mask.shape

    def value(y: float, x: float) -> float:
        if y < -1 or y > height or x < -1 or x > width:
            return 0.0
        y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
        top, left = min(int(y), height - 1), min(int(x), width - 1)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        upper = (1 - dx) * mask[top, left] + dx * mask[top, right]
        return float((1 - dy) * upper + dy * ((1 - dx) * mask[bottom, left] + dx * mask[bottom, right]))

    bin_w, bin_h = (box[2] - box[0]) / side, (box[3] - box[1]) / side
    across, down = math.ceil(bin_w), math.ceil(bin_h)
    out = np.zeros((side, side))
    for i in range(side):
        for j in range(side):
            samples = [
                value(
                    box[1] - 0.5 + (i + (v + 0.5) / down) * bin_h,
                    box[0] - 0.5 + (j + (u + 0.5) / across) * bin_w,
                )
                for v in range(down)
                for u in range(across)
            ]
            out[i, j] = np.mean(samples)
    return out


def inside(polygon: list[float], y: float, x: float) -> bool:
    """Even-odd rule."""
    points = np.array(polygon).reshape(-1, 2)
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            crossings += 1
    return crossings % 2 == 1


def distance_to_edge(polygon: list[float], y: float, x: float) -> float:
    points = np.array(polygon).reshape(-1, 2)
    nearest = math.inf
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        t = np.clip(np.dot((x, y) - a, b - a) / np.dot(b - a, b - a), 0, 1)
        nearest = min(nearest, float(np.linalg.norm(a + t * (b - a) - (x, y))))
    return nearest


# Bitmasks


def bitmasks() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 9, 11, generator=generator)
    smooth = torch.nn.functional.interpolate(noise[None], size=(40, 50), mode="bilinear")[0]
    return smooth > 0.5


CROPS = boxes((3.2, 4.1, 30.7, 33.3), (0, 0, 50, 40), (22, 14, 24.5, 15.5), (-4.0, 30.0, 20.0, 47.0))


@pytest.mark.parametrize("pixels", [2**26, 1, 2 * 40 * 50])
def test_bitmasks_are_cut_as_a_loop_cuts_them(pixels, monkeypatch):
    monkeypatch.setattr(mask_targets, "_PIXELS_AT_ONCE", pixels)
    masks, matched = bitmasks(), torch.tensor([2, 0, 2, 1])
    got = crop_masks(masks, matched, CROPS, M)
    assert got.shape == (4, M, M)
    assert got.dtype == torch.bool
    for row, index in enumerate(matched.tolist()):
        values = naive_crop(masks[index].double().numpy(), CROPS[row].numpy(), M)
        sure = np.abs(values - 0.5) > 1e-9
        assert np.array_equal(got[row].numpy()[sure], (values >= 0.5)[sure])
        assert 0 < got[row].sum() < M * M


# Polygons


def test_a_polygon_is_drawn_in_the_frame_of_the_box():
    """Pixels whose centre is further than half a pixel from every edge are decided."""
    crops = boxes((0, 0, 60, 60), (10, 20, 40, 50), (30, 5, 70, 20))
    got = crop_masks([[TRIANGLE]], torch.zeros(3, dtype=torch.int64), crops, M).numpy()
    for row, (x0, y0, x1, y1) in enumerate(crops.tolist()):
        scale = np.array([M / (x1 - x0), M / (y1 - y0)])
        polygon = ((np.array(TRIANGLE).reshape(-1, 2) - (x0, y0)) * scale).ravel().tolist()
        decided = 0
        for i in range(M):
            for j in range(M):
                if distance_to_edge(polygon, i + 0.5, j + 0.5) > 0.75:
                    decided += 1
                    assert got[row, i, j] == inside(polygon, i + 0.5, j + 0.5), (row, i, j)
        assert decided > 0.6 * M * M
        assert 0 < got[row].sum() < M * M


def test_a_rectangle_fills_its_own_box():
    rectangle = [3.0, 4.0, 17.0, 4.0, 17.0, 32.0, 3.0, 32.0]
    left = [3.0, 4.0, 10.0, 4.0, 10.0, 32.0, 3.0, 32.0]
    box = boxes((3, 4, 17, 32), (3, 4, 17, 32))
    got = crop_masks([[rectangle], [left]], torch.tensor([0, 1]), box, M)
    assert got[0].all()
    assert got[1, :, : M // 2].all()
    assert not got[1, :, M // 2 :].any()


def test_the_polygons_of_an_instance_are_united():
    both = [[3.0, 4.0, 10.0, 4.0, 10.0, 32.0, 3.0, 32.0], [10.0, 4.0, 17.0, 4.0, 17.0, 32.0, 10.0, 32.0]]
    assert crop_masks([both], torch.tensor([0]), boxes((3, 4, 17, 32)), M).all()


def test_an_instance_without_polygons_has_no_pixels_and_disturbs_no_other():
    box = boxes((0, 0, 60, 60))
    got = crop_masks([[], [TRIANGLE]], torch.tensor([1, 0, 1]), box.expand(3, 4), M)
    assert not got[1].any()
    assert torch.equal(got[0], got[2])
    assert torch.equal(got[:1], crop_masks([[TRIANGLE]], torch.tensor([0]), box, M))
    assert not crop_masks([[]], torch.tensor([0]), box, M).any()


def test_a_box_thinner_than_a_tenth_of_a_pixel_is_drawn():
    thin = boxes((20.0, 10.0, 20.001, 40.0))
    assert crop_masks([[TRIANGLE]], torch.tensor([0]), thin, M)[0, :-2].all()


def test_polygons_may_be_arrays():
    crop = (torch.tensor([0]), boxes((0, 0, 60, 60)), M)
    assert torch.equal(crop_masks([[np.array(TRIANGLE)]], *crop), crop_masks([[TRIANGLE]], *crop))


def test_polygons_and_bitmasks_of_one_shape_nearly_agree():
    mask = torch.tensor([[inside(TRIANGLE, y + 0.5, x + 0.5) for x in range(64)] for y in range(64)])
    crop = (torch.tensor([0]), boxes((2, 3, 58, 61)), M)
    drawn, cut = crop_masks([[TRIANGLE]], *crop), crop_masks(mask[None], *crop)
    assert (drawn & cut).sum() / (drawn | cut).sum() > 0.9


@pytest.mark.parametrize("masks", [[], torch.zeros(0, 8, 8, dtype=torch.bool), [[TRIANGLE]], bitmasks()])
def test_no_boxes_no_targets(masks):
    got = crop_masks(masks, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), M)
    assert got.shape == (0, M, M)
    assert got.dtype == torch.bool
