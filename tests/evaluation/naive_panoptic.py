"""Panoptic matching one pair of segments at a time, by the rules: the oracle, and the baseline for speed."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnest_zoo.annotations.tables import SegmentInfo
from resnest_zoo.evaluation.segments import SegmentMap

Matches = dict[int, tuple[list[float], int, int]]


def naive_matches(truth: SegmentMap, found: SegmentMap) -> Matches:
    """By category id: IoUs of the pairs by rising id of the truth, false positives, false negatives."""
    void = truth.ids == 0
    ious: dict[int, list[float]] = {}
    fp: dict[int, int] = {}
    fn: dict[int, int] = {}
    taken = set()
    for wanted in sorted(truth.segments, key=lambda segment: segment.id):
        if wanted.is_crowd:
            continue
        partner = None
        for offered in found.segments:
            if offered.category_id == wanted.category_id:
                iou = _iou(truth.ids == wanted.id, found.ids == offered.id, void)
                if iou > 0.5:
                    partner = offered
                    ious.setdefault(wanted.category_id, []).append(iou)
        if partner is None:
            fn[wanted.category_id] = fn.get(wanted.category_id, 0) + 1
        else:
            taken.add(partner.id)
    for offered in found.segments:
        if offered.id not in taken and not _is_ignored(offered, truth, found):
            fp[offered.category_id] = fp.get(offered.category_id, 0) + 1
    return {id: (ious.get(id, []), fp.get(id, 0), fn.get(id, 0)) for id in sorted({*ious, *fp, *fn})}


def _iou(wanted: np.ndarray[Any, Any], offered: np.ndarray[Any, Any], void: np.ndarray[Any, Any]) -> float:
    shared = np.count_nonzero(wanted & offered)
    return float(shared / np.count_nonzero((wanted | offered) & ~(void & offered)))


def _is_ignored(offered: SegmentInfo, truth: SegmentMap, found: SegmentMap) -> bool:
    mask = found.ids == offered.id
    excused = np.count_nonzero(mask & (truth.ids == 0))
    crowds = [s.id for s in truth.segments if s.is_crowd and s.category_id == offered.category_id]
    if crowds:
        excused += np.count_nonzero(mask & (truth.ids == crowds[-1]))
    return bool(excused / np.count_nonzero(mask) > 0.5)
