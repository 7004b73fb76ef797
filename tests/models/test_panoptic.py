from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.models.panoptic import MergeLimits, merge_panoptic
from resnest_zoo.models.semantic import SemSegFPNHead
from resnest_zoo.structures import Instances, PanopticResult, Segment

NAMES = Categories.numbered(5)


def instances(masks: Tensor, scores: list[float], classes: list[int] | None = None) -> Instances:
    count = len(scores)
    return Instances(
        torch.zeros(count, 4),
        torch.tensor(scores, dtype=torch.float64),
        torch.tensor(classes or [0] * count),
        (masks.shape[1], masks.shape[2]),
        NAMES,
        masks,
    )


def naive_merge(
    found: Instances, semantic: Tensor, limits: MergeLimits
) -> tuple[list[list[int]], list[Segment]]:
    """Pixel by pixel."""
    assert found.masks is not None
    height, width = semantic.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    taken: dict[tuple[int, int], int] = {}
    segments: list[Segment] = []
    # Of equal scores the first comes first, as `sorted` keeps their order.
    for index in sorted(range(len(found)), key=lambda i: -float(found.scores[i])):
        if float(found.scores[index]) < limits.instance_score:
            continue
        mask = [p for p in pixels if found.masks[index][p]]
        free = [p for p in mask if p not in taken]
        if not mask or (len(mask) - len(free)) / len(mask) > limits.overlap_thresh:
            continue
        number = len(segments) + 1
        taken.update(dict.fromkeys(free, number))
        segments.append(
            Segment(number, True, int(found.classes[index]), len(free), float(found.scores[index]), index)
        )
    for k in sorted({int(semantic[p]) for p in pixels} - {0}):
        free = [p for p in pixels if int(semantic[p]) == k and p not in taken]
        if len(free) >= limits.stuff_area:
            number = len(segments) + 1
            taken.update(dict.fromkeys(free, number))
            segments.append(Segment(number, False, k, len(free)))
    return [[taken.get((y, x), 0) for x in range(width)] for y in range(height)], segments


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "limits", [MergeLimits(0.5, 12, 0.3), MergeLimits(0.0, 1, 0.0), MergeLimits(1.0, 30, 0.6)]
)
def test_merging_equals_a_loop_over_pixels(seed, limits):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(8, 11, 13, dtype=torch.bool)
    for mask in masks:
        y, x = (int(torch.randint(0, 8, (), generator=generator)) for _ in range(2))
        height, width = (int(torch.randint(0, 7, (), generator=generator)) for _ in range(2))
        mask[y : y + height, x : x + width] = True
    # Few distinct scores, so that several are equal.
    scores = (torch.randint(0, 6, (8,), generator=generator) / 5).sort(descending=True).values.tolist()
    found = instances(masks, scores, [0, 1, 2, 3, 4, 0, 1, 2])
    semantic = (
        torch.randint(0, 5, (4, 5), generator=generator).repeat_interleave(3, 0).repeat_interleave(3, 1)
    )
    semantic = semantic[:11, :13].contiguous()
    got = merge_panoptic(found, semantic, limits)
    expected_map, expected_segments = naive_merge(found, semantic, limits)
    assert got.segment_map.tolist() == expected_map
    assert list(got.segments) == expected_segments
    assert got.segment_map.dtype == torch.int32
    assert torch.equal(got.semantic, semantic)


def strips(*widths: tuple[int, int]) -> Tensor:
    """One mask (1, 10) for each range of columns."""
    masks = torch.zeros(len(widths), 1, 10, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, widths, strict=True):
        mask[0, start:stop] = True
    return masks


SEMANTIC = torch.zeros(1, 10, dtype=torch.int64)


def merged(masks: Tensor, scores: list[float], limits: MergeLimits) -> PanopticResult:
    return merge_panoptic(instances(masks, scores), SEMANTIC, limits)


def test_an_overlap_of_exactly_the_threshold_is_allowed():
    half_taken = merged(strips((0, 4), (2, 6)), [0.9, 0.8], MergeLimits(0.5, 1, 0.0))
    assert half_taken.segment_map.tolist() == [[1, 1, 1, 1, 2, 2, 0, 0, 0, 0]]
    more_taken = merged(strips((0, 5), (2, 6)), [0.9, 0.8], MergeLimits(0.5, 1, 0.0))
    assert [s.instance for s in more_taken.segments] == [0]


def test_a_score_of_exactly_the_threshold_is_enough():
    got = merged(strips((0, 2), (4, 6), (7, 9)), [0.75, 0.5, 0.25], MergeLimits(0.5, 1, 0.5))
    assert [s.instance for s in got.segments] == [0, 1]


def test_of_equal_scores_the_first_comes_first():
    got = merged(strips((0, 6), (0, 6), (0, 6)), [0.5, 0.5, 0.5], MergeLimits(0.5, 1, 0.0))
    assert [s.instance for s in got.segments] == [0]


def test_an_empty_mask_is_no_segment():
    got = merged(strips((0, 0), (0, 3)), [0.9, 0.8], MergeLimits(1.0, 1, 0.0))
    assert [(s.id, s.instance, s.area) for s in got.segments] == [(1, 1, 3)]


def test_an_instance_wholly_covered_falls():
    got = merged(strips((0, 6), (1, 3)), [0.9, 0.8], MergeLimits(0.99, 1, 0.0))
    assert [s.instance for s in got.segments] == [0]


@pytest.mark.parametrize(("limit", "classes"), [(4, [1]), (5, [])])
def test_stuff_needs_its_area_of_free_pixels(limit, classes):
    semantic = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0, 0, 0]])
    found = instances(strips((4, 6)), [0.9])
    got = merge_panoptic(found, semantic, MergeLimits(0.5, limit, 0.5))
    assert [s.class_index for s in got.segments if not s.is_thing] == classes


def test_without_instances_there_is_stuff_alone():
    got = merge_panoptic(instances(strips(), []), SEMANTIC + 3, MergeLimits(0.5, 1, 0.5))
    assert got.segment_map.tolist() == [[1] * 10]
    assert got.segments == (Segment(1, False, 3, 10),)


def test_nothing_at_all_is_an_empty_map():
    got = merge_panoptic(instances(strips(), []), SEMANTIC, MergeLimits(0.5, 1, 0.5))
    assert not got.segment_map.any()
    assert got.segments == ()


# The semantic head


@pytest.mark.parametrize(("norm", "has_bias"), [("", True), ("SyncBN", False), ("GN", False)])
def test_the_semantic_head_builds_what_the_published_checkpoint_holds(norm, has_bias):
    """Whatever norm but GN is named, there is none, and then no bias either."""
    head = SemSegFPNHead(("p2", "p3", "p4", "p5"), (4, 8, 16, 32), 6, 32, 4, 7, norm)
    keys = set(head.state_dict())
    convs = [("p2", 0), ("p3", 0), ("p4", 0), ("p4", 2), ("p5", 0), ("p5", 2), ("p5", 4)]
    expected = {f"{level}.{k}.weight" for level, k in convs} | {"predictor.weight", "predictor.bias"}
    if has_bias:
        expected |= {f"{level}.{k}.bias" for level, k in convs}
    if norm == "GN":
        expected |= {f"{level}.{k}.norm.{part}" for level, k in convs for part in ("weight", "bias")}
    assert keys == expected


@torch.no_grad()
def test_the_semantic_head_sums_the_levels_at_stride_4_and_answers_at_stride_1():
    torch.manual_seed(0)
    head = SemSegFPNHead(("p2", "p3"), (4, 8), 6, 8, 4, 7, "").double()
    features = {"p2": torch.randn(2, 6, 8, 12).double(), "p3": torch.randn(2, 6, 4, 6).double()}
    fine = head.p2[0](features["p2"]).relu()
    up = {"scale_factor": 2, "mode": "bilinear", "align_corners": False}
    coarse = torch.nn.functional.interpolate(head.p3[0](features["p3"]).relu(), **up)
    expected = head.predictor(fine + coarse)
    expected = torch.nn.functional.interpolate(expected, scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(head(features), expected, rtol=1e-12)
    assert expected.shape == (2, 7, 32, 48)
