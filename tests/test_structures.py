from __future__ import annotations

import torch

from resnest_zoo.categories import COCO
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
