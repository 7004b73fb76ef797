from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from resnest_zoo.ops import operators
from resnest_zoo.ops.nms import counted_rows, grouped_nms, nms, nms_by_level
from tests.models import naive


def crowd(count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on whole pixels, with scores of which many are equal, in 7 groups."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 60, (count, 2), generator=generator)
    sizes = torch.randint(8, 24, (count, 2), generator=generator)
    scores = torch.randint(1, 20, (count,), generator=generator) / 20
    groups = torch.randint(0, 7, (count,), generator=generator)
    return torch.cat((corners, corners + sizes), dim=1).to(dtype), scores.to(dtype), groups


@pytest.mark.parametrize("threshold", [0.0, 0.31, 0.7, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_what_stays_equals_a_loop(count, threshold):
    boxes, scores, groups = crowd(count)
    got = grouped_nms(boxes, scores, groups, threshold)
    assert got.dtype == torch.int64
    assert got.tolist() == naive.suppress(boxes.numpy(), scores.numpy(), groups.numpy(), threshold)
    one = torch.zeros_like(groups).numpy()
    assert nms(boxes, scores, threshold).tolist() == naive.suppress(
        boxes.numpy(), scores.numpy(), one, threshold
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [0, 1, 300, 1000])
def test_up_to_1000_boxes_stay_in_the_order_of_torchvision(count, dtype):
    boxes, scores, groups = crowd(count, dtype)
    boxes = boxes + torch.rand(boxes.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    assert torch.equal(grouped_nms(boxes, scores, groups, 0.6), batched_nms(boxes, scores, groups, 0.6))


def test_beyond_1000_boxes_equal_scores_still_stay_in_their_order():
    """torchvision goes from group to group there, and leaves the order of equal scores open."""
    boxes, scores, groups = crowd(1500, torch.float32)
    got, expected = grouped_nms(boxes, scores, groups, 0.6), batched_nms(boxes, scores, groups, 0.6)
    assert set(got.tolist()) == set(expected.tolist())
    assert got.tolist() == sorted(got.tolist(), key=lambda i: (-scores[i], i))


def test_scores_in_half_precision_suppress_boxes_in_full():
    boxes, scores, groups = crowd(40, torch.float32)
    assert torch.equal(
        grouped_nms(boxes, scores.half(), groups, 0.5), grouped_nms(boxes, scores.half().float(), groups, 0.5)
    )


def test_empty_boxes_without_a_score_stay_last_and_change_nothing():
    boxes, scores, _ = crowd(50)
    out = torch.arange(50) % 3 == 0
    got = nms(boxes.masked_fill(out[:, None], 0.0), scores.masked_fill(out, -torch.inf), 0.5).tolist()
    rows = (~out).nonzero().flatten()
    expected = rows[nms(boxes[rows], scores[rows], 0.5)].tolist()
    assert got == expected + out.nonzero().flatten().tolist()
    assert 5 < len(expected) < len(rows)


@pytest.mark.parametrize("count", [0, 1, 900, 1100, 2500])
def test_levels_suppress_as_in_torchvision_and_rows_that_are_no_boxes_are_left_out(count):
    boxes, scores, groups = crowd(count, torch.float32)
    groups = groups.sort().values
    rows = torch.bincount(groups, minlength=7).tolist()
    out = torch.arange(count) % 25 == 3
    real = (~out).nonzero().flatten()
    expected = real[batched_nms(boxes[real], scores[real], groups[real], 0.6)]
    boxes, scores = boxes.masked_fill(out[:, None], 0.0), scores.masked_fill(out, -torch.inf)
    assert torch.equal(nms_by_level(boxes, scores, rows, 0.6), expected)


def test_no_level_has_a_box():
    boxes, scores = torch.zeros(1200, 4), torch.full((1200,), -torch.inf)
    for rows in ([1000, 200], [300, 0]):
        assert nms_by_level(boxes[: sum(rows)], scores[: sum(rows)], rows, 0.6).shape == (0,)


class Suppress(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
        return grouped_nms(boxes, scores, groups, 0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated:FutureWarning")  # torchvision
def test_an_exported_graph_is_right_however_few_boxes_stay():
    rows = torch.export.Dim.AUTO
    program = torch.export.export(Suppress(), crowd(20), dynamic_shapes=({0: rows}, {0: rows}, {0: rows}))
    run = program.module()
    few = [crowd(30, seed=2), crowd(2, seed=2), crowd(1), crowd(0)]
    alike = (crowd(1)[0].expand(9, 4), crowd(9)[1], torch.zeros(9, dtype=torch.int64))
    for given in (*few, alike):
        assert torch.equal(run(*given), Suppress()(*given))
    assert len(run(*alike)) == 1


class SuppressLevels(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return nms_by_level(boxes, scores, [600, 500], 0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated:FutureWarning")  # torchvision
def test_an_exported_graph_of_levels_is_right_however_few_boxes_there_are():
    run = torch.export.export(SuppressLevels(), crowd(1100)[:2]).module()
    for count in (0, 1, 2, 1100):
        boxes, scores, _ = crowd(1100, seed=2)
        out = torch.arange(1100) >= count
        given = boxes.masked_fill(out[:, None], 0.0), scores.masked_fill(out, -torch.inf)
        assert torch.equal(run(*given), SuppressLevels()(*given))
        assert count == 1100 or len(run(*given)) == count
    assert len(run(*given)) > 2


def test_rows_are_cut_or_filled_with_zeros_to_their_number():
    rows = torch.arange(1, 7).reshape(3, 2)
    assert counted_rows(rows, 2).tolist() == [[1, 2], [3, 4]]
    assert counted_rows(rows, 4).tolist() == [[1, 2], [3, 4], [5, 6], [0, 0]]
    assert counted_rows(rows[:0, 0], 2).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_box_is_suppressed_with_a_score_that_runtimes_leave_out(dtype, monkeypatch):
    """OpenVINO drops boxes whose scores are -inf or the lowest finite number."""
    boxes, scores, _ = crowd(50, dtype)
    scores = scores.masked_fill(torch.arange(50) % 3 == 0, -torch.inf)
    seen, suppress = [], operators.nms
    monkeypatch.setattr(operators, "nms", lambda *args: seen.append(args[1]) or suppress(*args))
    nms(boxes, scores, 0.5)
    nms_by_level(boxes.repeat(60, 1), scores.repeat(60), [2000, 1000], 0.5)
    assert len(seen) == 3
    assert all(s.min() > torch.finfo(dtype).min for s in seen)
