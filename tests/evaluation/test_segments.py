"""Segment maps: what they hold, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resnest_zoo.annotations.tables import SegmentInfo
from resnest_zoo.categories import COCO_PANOPTIC
from resnest_zoo.errors import ImageError, ShapeError
from resnest_zoo.evaluation.panoptic import match_segments, panoptic_quality
from resnest_zoo.evaluation.segments import SegmentMap, common_runs
from resnest_zoo.structures import PanopticResult, Segment
from tests.evaluation.pictures import CAT, segment_map


def test_a_segment_map_is_checked_when_made() -> None:
    for segments, shown in (((5, 5), "5"), ((0,), "0"), ((2**24,), "16777216")):
        with pytest.raises(ImageError, match=f"image 1: segment ids are distinct .* got {shown} repeated"):
            segment_map([[5]], *((id, CAT) for id in segments))
    for ids in (np.zeros((2, 2)), np.zeros(4, dtype=int), np.zeros((0, 4), dtype=int)):
        with pytest.raises(ShapeError, match=r"image 3: expected a segment map \(H, W\) of integers, got"):
            SegmentMap(3, ids, ())


@pytest.mark.parametrize(
    "annotation",
    [
        {"segments_info": []},
        {"image_id": 4},
        {"image_id": 4.5, "segments_info": []},
        {"image_id": 4, "segments_info": [{"id": 1, "category_id": 1, "iscrowd": "0"}]},
        {"image_id": 4, "segments_info": None},
        {"image_id": 4, "segments_info": [{"id": 1}]},
        {"image_id": 4, "segments_info": [{"id": 1.5, "category_id": 1}]},
        [],
    ],
)
def test_a_malformed_annotation_is_named(annotation: object) -> None:
    with pytest.raises(ImageError, match="expected a panoptic annotation: a dictionary with image_id"):
        SegmentMap.from_coco(np.ones((1, 1), dtype=int), annotation)  # type: ignore[arg-type]


def test_a_result_and_its_coco_form_are_one_map() -> None:
    segments = (Segment(1, True, 2, area=3), Segment(2, False, 4, area=2))
    ids = torch.tensor([[1, 1, 1], [2, 2, 0]], dtype=torch.int32)
    ours = SegmentMap.from_result(7, PanopticResult(ids, segments, ids.long()), COCO_PANOPTIC)
    infos = [{"id": 1, "category_id": 3, "iscrowd": 0}, {"id": 2, "category_id": 100}]
    coco = SegmentMap.from_coco(ids.numpy(), {"image_id": 7, "segments_info": infos})
    assert ours.segments == coco.segments == (SegmentInfo(1, 3), SegmentInfo(2, 100))
    record = match_segments(coco, ours, COCO_PANOPTIC)
    assert panoptic_quality([record], COCO_PANOPTIC).all.pq == 1


def test_crowd_is_read_from_the_annotation() -> None:
    infos = [{"id": 1, "category_id": CAT, "iscrowd": 1}, {"id": 2, "category_id": CAT, "iscrowd": 0}]
    truth = SegmentMap.from_coco(np.array([[1, 2]]), {"image_id": 7, "segments_info": infos})
    assert truth.segments == (SegmentInfo(1, CAT, is_crowd=True), SegmentInfo(2, CAT, is_crowd=False))


def test_runs_end_where_either_map_changes() -> None:
    """Also from one row to the next, where they may well go on."""
    first = np.array([[1, 1, 2], [2, 2, 2]])
    second = np.array([[5, 5, 5], [5, 6, 5]])
    values, others, lengths = common_runs(first, second)
    assert values.tolist() == [1, 2, 2, 2]
    assert others.tolist() == [5, 5, 6, 5]
    assert lengths.tolist() == [2, 2, 1, 1]
    values, others, lengths = common_runs(
        first.T, second.T
    )  # not contiguous: 1 2, 1 2, 2 2 and 5 5, 5 6, 5 5
    assert (values.tolist(), others.tolist()) == ([1, 2, 1, 2, 2], [5, 5, 5, 6, 5])
    assert lengths.tolist() == [1, 1, 1, 1, 2]
