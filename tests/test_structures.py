from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from resnest_zoo.categories import COCO, SHAPES, Categories
from resnest_zoo.errors import DataError, SelectionError, ShapeError
from resnest_zoo.structures import Instances, PanopticResult, Segment


def make(panoptic: PanopticResult | None = None) -> Instances:
    return Instances(
        boxes=torch.arange(12.0).reshape(3, 4),
        scores=torch.tensor([0.9, 0.5, 0.1]),
        classes=torch.tensor([0, 17, 2]),
        image_size=(4, 6),
        categories=COCO,
        masks=torch.eye(3, dtype=torch.bool)[:, :, None].expand(3, 3, 2),
        panoptic=panoptic,
    )


def test_instances_know_their_number_and_names() -> None:
    assert len(make()) == 3
    assert make().names == ["person", "horse", "car"]


def test_above_keeps_scores_at_least_the_threshold() -> None:
    kept = make().above(0.5)
    assert kept.scores.tolist() == torch.tensor([0.9, 0.5]).tolist()
    assert kept.boxes.tolist() == make().boxes[:2].tolist()
    assert kept.masks is not None
    assert kept.masks.shape == (2, 3, 2)
    assert len(make().above(0.0)) == 3
    assert len(make().above(1.0)) == 0


def test_above_lets_go_of_what_it_leaves_out() -> None:
    kept = make().above(0.5)
    for tensor in (kept.boxes, kept.scores, kept.classes, kept.masks):
        assert tensor is not None
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_results_can_be_compared_and_put_into_sets() -> None:
    one, other = make(), make()
    assert one != other  # no comparison of tensors, which would have no single answer
    assert len({one, other}) == 2
    ones = torch.ones(4, 6)
    assert PanopticResult(ones, (), ones) != PanopticResult(ones, (), ones)


def test_above_leaves_no_segment_that_names_a_missing_instance() -> None:
    segment_map = torch.ones(4, 6, dtype=torch.int32)
    segments = (Segment(1, True, 0, 5, 0.9, 0), Segment(2, True, 2, 3, 0.1, 2), Segment(3, False, 40, 9))
    result = make(PanopticResult(segment_map, segments, segment_map.long())).above(0.5).panoptic
    assert result is not None
    assert [segment.instance for segment in result.segments] == [0, None, None]
    assert [segment.id for segment in result.segments] == [1, 2, 3]
    assert result.segment_map is segment_map


def test_to_moves_every_tensor() -> None:
    moved = make(PanopticResult(torch.ones(4, 6), (), torch.ones(4, 6))).to("meta")
    assert moved.masks is not None
    assert moved.panoptic is not None
    tensors = (moved.boxes, moved.scores, moved.classes, moved.masks)
    assert {t.device.type for t in (*tensors, moved.panoptic.segment_map, moved.panoptic.semantic)} == {
        "meta"
    }


# --- indexing ------------------------------------------------------------------------------------------


def panoptic() -> PanopticResult:
    """Segments of instances 0 and 2, and one of stuff."""
    ids = torch.tensor([[1, 1, 2], [3, 3, 3]], dtype=torch.int32)
    segments = (Segment(1, True, 0, 2, 0.9, 0), Segment(2, True, 2, 1, 0.1, 2), Segment(3, False, 40, 3))
    return PanopticResult(ids, segments, ids.long())


SCORES = make().scores.tolist()


@pytest.mark.parametrize(
    ("selection", "places"),
    [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (torch.tensor(1), [1]),
        (slice(2), [0, 1]),
        (slice(None, None, -1), [2, 1, 0]),
        (slice(5, 9), []),
        ([0, 2], [0, 2]),
        ((2, -3, 2), [2, 0, 2]),
        ([], []),
        (range(1, 3), [1, 2]),
        ([True, False, True], [0, 2]),
        (np.array([2, 0], dtype=np.uint8), [2, 0]),
        (np.array([False, False, False]), []),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([False, True, True]), [1, 2]),
        (torch.tensor([]), None),
    ],
)
def test_instances_are_indexed_as_arrays_are(selection: Any, places: list[int] | None) -> None:
    if places is None:
        with pytest.raises(SelectionError, match=r"got torch.float32 of shape \(0,\)"):
            make()[selection]
        return
    found = make(panoptic())
    found = replace(found, rles=({"counts": "a"}, {"counts": "b"}, {"counts": "c"}))
    kept = found[selection]
    assert isinstance(kept, Instances)
    assert kept.scores.tolist() == [SCORES[place] for place in places]
    assert kept.boxes.tolist() == [found.boxes[place].tolist() for place in places]
    assert kept.names == [found.names[place] for place in places]
    assert kept.masks is not None
    assert found.masks is not None
    assert torch.equal(kept.masks, torch.stack([*found.masks])[places])
    assert kept.rles is not None
    assert [rle["counts"] for rle in kept.rles] == ["abc"[place] for place in places]
    assert kept.image_size == found.image_size


def test_scores_filter_and_nothing_of_the_others_is_kept_in_memory() -> None:
    found = make()
    kept = found[found.scores > 0.3]
    assert kept.names == ["person", "horse"]
    assert len(found[found.scores > 1]) == 0
    for tensor in (kept.boxes, kept.scores, kept.classes, kept.masks):
        assert tensor is not None
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_above_does_not_depend_on_the_order() -> None:
    assert make()[[2, 1, 0]].above(0.5).names == ["horse", "person"]


def test_one_instance_at_a_time() -> None:
    assert [(len(one), one.names) for one in make()] == [(1, ["person"]), (1, ["horse"]), (1, ["car"])]
    assert list(make()[:0]) == []


def test_a_result_is_true_where_something_was_found() -> None:
    assert make()
    assert not make()[:0]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (3, "there is no instance 3 among 3"),
        (-4, "there is no instance -4 among 3"),
        ([0, 7], "there is no instance 7 among 3"),
        ([True, False], "a mask of 2 for 3 instances; expected one for each"),
        (torch.ones(4, dtype=torch.bool), "a mask of 4 for 3 instances"),
        (np.ones((3, 1), dtype=bool), r"got bool of shape \(3, 1\)"),
        (torch.tensor([0.0, 1.0]), r"got torch.float32 of shape \(2,\)"),
        (torch.ones(3, dtype=torch.bfloat16), "got torch.bfloat16"),
        (True, "got True"),
        ([True, 1, 0], r"got \[True, 1, 0\]"),
        (1.0, "got 1.0"),
        (None, "got None"),
        ([[0], [0, 1]], "expected a whole number"),
        ((0, slice(2)), "expected a whole number"),
        ("boxes", "there is nothing at 'boxes'; fields are attributes, as in .boxes"),
        (10**30, "expected a whole number"),
    ],
)
def test_a_wrong_index_is_told(selection: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        make()[selection]


@pytest.mark.parametrize(
    ("selection", "behind"),
    [
        (slice(2), [0, None, None]),
        ([2], [None, 0, None]),
        ([2, 1, 0], [2, 0, None]),
        ([0, 0], [0, None, None]),
        ([], [None, None, None]),
    ],
)
def test_segments_follow_the_instances_behind_them(selection: Any, behind: list[int | None]) -> None:
    found = make(panoptic())
    kept = found[selection].panoptic
    assert kept is not None
    assert found.panoptic is not None
    assert [segment.instance for segment in kept.segments] == behind
    assert kept.segment_map is found.panoptic.segment_map
    assert [segment.score for segment in kept.segments] == [0.9, 0.1, None]


# --- joining -------------------------------------------------------------------------------------------


def test_parts_of_a_result_make_the_result_again() -> None:
    found = make(panoptic())
    again = Instances.cat([found[:2], found[:0], found[2:]])
    assert again.scores.tolist() == SCORES
    assert again.boxes.tolist() == found.boxes.tolist()
    assert again.names == found.names
    assert again.masks is not None
    assert found.masks is not None
    assert torch.equal(again.masks, found.masks)
    assert again.panoptic is not None
    assert found.panoptic is not None
    assert again.panoptic.segments == found.panoptic.segments


def test_run_lengths_are_joined_and_two_maps_have_no_sum() -> None:
    found = replace(make(panoptic()), masks=None, rles=({"counts": "a"}, {"counts": "b"}, {"counts": "c"}))
    other = replace(found, panoptic=panoptic())
    both = Instances.cat([found, other])
    assert both.rles is not None
    assert [rle["counts"] for rle in both.rles] == [*"abcabc"]
    assert both.panoptic is None
    assert Instances.cat([found, replace(found, panoptic=None)]).panoptic is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image_size": (6, 4)}, ShapeError, "of one size, got 4x6 and 6x4"),
        ({"categories": SHAPES}, DataError, "the same categories, got others"),
        ({"masks": None}, DataError, "masks in all results or in none"),
        ({"rles": ()}, DataError, "rles in all results or in none"),
    ],
)
def test_results_that_do_not_fit_together_are_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Instances.cat([make(), replace(make(), **change)])
    with pytest.raises(ShapeError, match="got none"):
        Instances.cat([])


# --- moving and showing --------------------------------------------------------------------------------


def test_arrays_hold_what_the_tensors_hold() -> None:
    found = replace(make(), boxes=make().boxes.to(torch.bfloat16).requires_grad_())
    boxes, scores, classes, masks = found.numpy()
    assert {type(a) for a in (boxes, scores, classes, masks)} == {np.ndarray}
    assert boxes.tolist() == make().boxes.tolist()
    assert scores.tolist() == SCORES
    assert classes.dtype == np.int64
    assert masks is not None
    assert masks.shape == (3, 3, 2)
    assert masks.dtype == bool
    assert replace(make(), masks=None).numpy().masks is None
    assert repr(make().numpy()) == "arrays of 3 instances with masks"
    assert make().cpu().boxes.device.type == "cpu"


def named(*names: str, size: tuple[int, int] = (427, 640)) -> Instances:
    of = tuple(dict.fromkeys(names))
    categories = Categories(of, tuple(range(len(of))))
    return Instances(
        torch.zeros(len(names), 4),
        torch.zeros(len(names)),
        torch.tensor([of.index(name) for name in names], dtype=torch.int64),
        size,
        categories,
    )


def test_a_result_shows_itself_on_one_line() -> None:
    stars = named("star", "ring", "triangle", "star", "triangle")
    assert repr(stars) == "5 instances: 2 star, 2 triangle, 1 ring, 427x640"
    assert repr(stars[1]) == "1 instance: 1 ring, 427x640"
    assert repr(stars[:0]) == "0 instances, 427x640"
    assert repr(replace(stars[0], panoptic=panoptic())) == "1 instance: 1 star, 427x640, 3 segments"
    assert repr(panoptic()) == "3 segments, 2x3"


def test_the_line_stays_short_whatever_the_classes_are_called() -> None:
    many = named(*(f"class {number}" for number in range(50)), "class 1", "two\nlines " + "x" * 500)
    line = repr(many)
    assert line.startswith("52 instances: 2 class 1, 1 class 0, ")
    assert line.endswith(", 43 of 43 more classes, 427x640")
    assert "\n" not in repr(named("two\nlines " + "x" * 500))
    assert len(repr(named("two\nlines " + "x" * 500))) < 100
