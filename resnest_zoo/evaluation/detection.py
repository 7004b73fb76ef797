"""Box and mask AP of detections, as COCO defines them, and how far it varies with the images.

Legend: N images, K categories, D detections of one category; T IoU thresholds 0.5, 0.55 ... 0.95,
R recall levels 0, 0.01 ... 1, A areas (all, small, medium, large), M limits of detections per image.

Source: https://cocodataset.org/#detection-eval; numerics of pycocotools, arguments as in detectron2,
`evaluation/coco_evaluation.py`.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resnest_zoo.errors import ConfigError
from resnest_zoo.evaluation.coco_json import DetectionRows, DetectionTruth, Rows, load_truth, read_rows

Array = np.ndarray[Any, Any]
Kind = Literal["bbox", "segm"]
Evaluator = Literal["hotcoco", "pycocotools"]


@dataclass(frozen=True)
class DetectionMetrics:
    """COCO's twelve statistics and the AP of each category; fractions in [0, 1], None where nothing counts.
    """

    kind: Kind
    evaluator: str
    version: str
    images: int
    max_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_category: dict[int, float | None]


def evaluate_detections(
    truth: DetectionTruth | str | Path,
    rows: Rows | str | Path,
    kind: Kind,
    *,
    image_ids: Sequence[int] | None = None,
    max_detections: int = 100,
    evaluator: Literal["auto"] | Evaluator = "auto",
) -> DetectionMetrics:
    name = _choose(evaluator)
    if max_detections < 10:
        raise ConfigError("x")
    truth, found = _read(truth, rows, kind, image_ids)
    run = _run(truth, found, kind, name, (1, 10, max_detections))
    precision, recall = run.eval["precision"], run.eval["recall"]
    return DetectionMetrics(
        kind=kind,
        evaluator=name,
        version=metadata.version(name),
        images=len(truth.image_ids),
        max_detections=max_detections,
        ap=_mean(precision[:, :, :, 0, 2]),
        ap50=_mean(precision[0, :, :, 0, 2]),
        ap75=_mean(precision[5, :, :, 0, 2]),
        ap_small=_mean(precision[:, :, :, 1, 2]),
        ap_medium=_mean(precision[:, :, :, 2, 2]),
        ap_large=_mean(precision[:, :, :, 3, 2]),
        ar1=_mean(recall[:, :, 0, 0]),
        ar10=_mean(recall[:, :, 0, 1]),
        ar100=_mean(recall[:, :, 0, 2]),
        ar_small=_mean(recall[:, :, 1, 2]),
        ar_medium=_mean(recall[:, :, 2, 2]),
        ar_large=_mean(recall[:, :, 3, 2]),
        per_category={
            category: _mean(precision[:, :, index, 0, 2])
            for index, category in enumerate(truth.category_ids.tolist())
        },
    )


def _mean(values: Array) -> float | None:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


def _choose(evaluator: str) -> Evaluator:
    if evaluator == "auto":
        return "hotcoco" if importlib.util.find_spec("hotcoco") else "pycocotools"
    return evaluator


def _read(truth, rows, kind, image_ids):
    if not isinstance(truth, DetectionTruth):
        truth = load_truth(truth)
    if kind == "segm":
        truth.check_masks()
    found = read_rows(rows, truth, kind == "segm")
    if image_ids is not None:
        positions = truth.positions(image_ids)
        truth, found = truth.at(positions), found.at(positions, len(truth.image_ids))
    return truth, found


def _run(truth, found, kind, name, limits, areas=None):
    build = _with_hotcoco if name == "hotcoco" else _with_pycocotools
    with redirect_stdout(io.StringIO()):
        run = build(truth, found, kind)
        run.params.maxDets = list(limits)
        if areas == "all":
            run.params.areaRng, run.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        run.evaluate()
        if areas != "all":
            run.accumulate()
    return run


def _with_pycocotools(truth, found, kind):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = [{"id": i+1, "height": h, "width": w} for i, (h, w) in enumerate(truth.sizes.tolist())]
    categories = [{"id": i + 1, "name": str(i + 1)} for i in range(len(truth.category_ids))]
    columns = zip((truth.images+1).tolist(), (truth.categories+1).tolist(), truth.boxes.tolist(), truth.areas.tolist(), truth.crowd.tolist(), truth.masks)
    annotations = [
        {"id": i+1, "image_id": im, "category_id": c, "bbox": b, "area": a, "iscrowd": int(cr), "segmentation": m}
        for i, (im, c, b, a, cr, m) in enumerate(columns)
    ]
    gt = COCO()
    gt.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    gt.createIndex()
    key = "bbox" if found.masks is None else "segmentation"
    shapes = found.boxes.tolist() if found.masks is None else found.masks
    rows = [{"image_id": i, "category_id": c, "score": s, key: v} for i, c, s, v in zip((found.images+1).tolist(), (found.categories+1).tolist(), found.scores.tolist(), shapes)]
    if rows:
        dt = gt.loadRes(rows)
    else:
        dt = COCO()
        dt.dataset = {"images": images, "categories": categories, "annotations": []}
        dt.createIndex()
    return COCOeval(gt, dt, kind)


def _with_hotcoco(truth, found, kind):
    import hotcoco

    images = [{"id": i+1, "height": h, "width": w} for i, (h, w) in enumerate(truth.sizes.tolist())]
    categories = [{"id": i + 1, "name": str(i + 1)} for i in range(len(truth.category_ids))]
    gt = hotcoco.COCO.from_arrays(
        images, categories, truth.images + 1, truth.categories + 1, truth.boxes,
        area=truth.areas, iscrowd=truth.crowd, segmentation=truth.masks if kind == "segm" else None,
    )
    table = np.column_stack([found.images + 1, found.boxes, found.scores, found.categories + 1])
    dt = gt.load_res(table, segmentation=found.masks)
    if found.masks is not None:
        dt.update_anns(ids=np.arange(1, len(found.images) + 1), area=hotcoco.mask.area(found.masks).astype(float))
    return hotcoco.COCOeval(gt, dt, kind)


def draw_aps(truth, rows, kind, image_ids, draws, seed, name):
    truth, found = _read(truth, rows, kind, image_ids)
    n = len(truth.image_ids)
    run = _run(truth, found, kind, name, (1, 10, 100), areas="all")
    weights = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=draws)
    return weighted_aps(run.evalImgs, weights, len(truth.category_ids))


def weighted_aps(cells, weights, num_categories):
    by_category = {}
    for cell in cells:
        if cell is not None:
            by_category.setdefault(cell["category_id"], []).append(cell)
    total = np.zeros(len(weights))
    count = np.zeros(len(weights))
    for group in by_category.values():
        ap, objects = category_aps(sorted(group, key=lambda c: c["image_id"]), weights)
        total += np.where(objects > 0, ap, 0.0)
        count += objects > 0
    return total / count


def category_aps(cells, weights):
    gts = np.zeros(weights.shape[1])
    for c in cells:
        gts[c["image_id"] - 1] += np.count_nonzero(np.asarray(c["gtIgnore"]) == 0)
    objects = weights @ gts
    images = np.concatenate([np.full(len(c["dtScores"]), c["image_id"] - 1) for c in cells])
    scores = np.concatenate([c["dtScores"] for c in cells])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([np.asarray(c["dtMatches"]).reshape(10, -1) != 0 for c in cells], axis=1)[:, order]
    ignored = np.concatenate([np.asarray(c["dtIgnore"], dtype=bool).reshape(10, -1) for c in cells], axis=1)[:, order]
    if not gts.any():
        return np.zeros(len(weights)), objects
    drawn = weights[:, images[order]]
    levels = np.linspace(0, 1, 101)
    ap = np.zeros(len(weights))
    for hit, ign in zip(matched, ignored):
        at = np.flatnonzero(hit & ~ign)
        if not len(at):
            continue
        tp = drawn[:, at].cumsum(1)
        seen = (drawn * ~ign).cumsum(1)[:, at]
        pr = tp / (seen + np.spacing(1))
        env = np.maximum.accumulate(pr[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(levels, tp / np.maximum(objects, 1)[:, None], side="right")
        ap += (np.diff(reached, axis=1, prepend=0) * env).sum(1) / 101
    return ap / 10, objects
