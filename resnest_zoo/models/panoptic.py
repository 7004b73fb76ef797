"""Panoptic merge: instances first, by score, then stuff where nothing is yet.

Source: Kirillov et al., "Panoptic Segmentation", 2019, and panopticapi's combination script, as
detectron2's `combine_semantic_and_instance_outputs` computes it.

Legend: N instances, H and W of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resnest_zoo.structures import Instances, PanopticResult, Segment


@dataclass(frozen=True)
class MergeLimits:
    """What may enter the panoptic map.

    Attributes:
        overlap_thresh: an instance falls when more than this part of its mask is taken already.
        stuff_area: a stuff class needs this many free pixels.
        instance_score: an instance needs this score.
    """

    overlap_thresh: float
    stuff_area: int
    instance_score: float


def merge_panoptic(instances: Instances, semantic: Tensor, limits: MergeLimits) -> PanopticResult:
    """Merge `instances`, with masks and by falling score, with the (H, W) int64 classes `semantic`."""
    assert instances.masks is not None
    segment_map = torch.zeros_like(semantic, dtype=torch.int32)
    segments: list[Segment] = []
    for index in instances.scores.argsort(descending=True, stable=True).tolist():
        score = float(instances.scores[index])
        if score < limits.instance_score:
            break
        mask = instances.masks[index]
        area = int(mask.sum())
        free = mask & (segment_map == 0)
        free_area = int(free.sum())
        if area == 0 or (area - free_area) / area > limits.overlap_thresh:
            continue
        segment_map[free] = len(segments) + 1
        class_index = int(instances.classes[index])
        segments.append(Segment(len(segments) + 1, True, class_index, free_area, score, index))
    for class_index in semantic.unique().tolist():
        free = (semantic == class_index) & (segment_map == 0)
        area = int(free.sum())
        # Class 0 is "some thing": the instances' business.
        if class_index == 0 or area < limits.stuff_area:
            continue
        segment_map[free] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, False, class_index, area))
    return PanopticResult(segment_map, tuple(segments), semantic)
