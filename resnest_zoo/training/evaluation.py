"""Evaluation while training: the model on a validation set, shared by all processes.

COCO's box and mask AP, panoptic quality and semantic IoU, in percent, by detectron2's names: "bbox/AP",
"segm/AP50", "bbox/AP-person", "panoptic_seg/PQ", "sem_seg/mIoU"; of several sets "coco_2017_val/bbox/AP" and
so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.annotations.tables import ImageId
from resnest_zoo.data.sizes import read_sized_picture
from resnest_zoo.data.workers import read_ahead
from resnest_zoo.distributed import World
from resnest_zoo.errors import ZooError
from resnest_zoo.evaluation.detection import evaluate_detections
from resnest_zoo.evaluation.panoptic import PanopticRecord, match_segments, panoptic_quality
from resnest_zoo.evaluation.results import detection_rows
from resnest_zoo.evaluation.segments import SegmentMap
from resnest_zoo.evaluation.semantic import count_confusion, semantic_metrics, semantic_truth
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import Instances, PanopticResult
from resnest_zoo.training.validation import Picture, ValidationSet

Metrics = dict[str, float | None]
Detect = Callable[[Tensor], Instances]  # of an RGB uint8 picture (3, H, W); result on the CPU, masks encoded

_DETECTION = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "APs": "ap_small",
    "APm": "ap_medium",
    "APl": "ap_large",
}


class _Reader:
    """Reads pictures by their number."""

    def __init__(self, pictures: tuple[Picture, ...]) -> None:
        self.pictures = pictures

    def __call__(self, index: int) -> tuple[ImageId, Tensor]:
        image_id, file, size = self.pictures[index]
        return image_id, read_sized_picture(file, size)


def evaluate_all(
    model: GeneralizedRCNN,
    sets: Mapping[str, ValidationSet],
    world: World,
    *,
    stopped: Callable[[], bool] = lambda: False,
    detect: Detect | None = None,
) -> Metrics | None:
    """Measure a model on sets one after another; arguments and errors are those of `evaluate`.

    Returns:
        The metrics of all in their order; where there are several sets, each metric bears its set's name.

    Source: detectron2, engine/defaults.py, `DefaultTrainer.test`, and evaluation/testing.py.
    """
    found: Metrics = {}
    for name, data in sets.items():
        metrics = evaluate(model, data, world, stopped=stopped, detect=detect)
        if metrics is None:
            return None
        start = f"{name}/" if len(sets) > 1 else ""
        found |= {f"{start}{metric}": value for metric, value in metrics.items()}
    return found


def evaluate(
    model: GeneralizedRCNN,
    data: ValidationSet,
    world: World,
    *,
    stopped: Callable[[], bool] = lambda: False,
    detect: Detect | None = None,
) -> Metrics | None:
    """Measure a model; each process takes every `world.size`-th picture.

    Args:
        model: its mode is restored at the end.
        data: what to measure on.
        world: all processes call this together.
        stopped: asked after each picture; once true in any process, the evaluation is given up.
        detect: what finds things in a picture, in place of the model alone.

    Returns:
        In every process the metrics in percent, the first of them the main one; None if given up.

    Raises:
        ZooError: in every process, when one cannot read a picture, finds it of another size than stated, or
            loses a process that reads.
    """
    assert model.config is not None
    was_training = model.training
    model.eval()
    found_in = detect or _detector(model)
    records: list[dict[str, Any]] = []
    problem = None
    mine = data.pictures[world.rank :: world.size]
    workers = model.config.dataloader.num_workers
    try:
        for image_id, image in read_ahead(_Reader(mine), range(len(mine)), workers):
            records.append(_record(data, image_id, found_in(image)))
            if stopped():
                break
    except ZooError as error:
        problem = str(error)
    finally:
        model.train(was_training)
    if problem := world.first(problem):  # else the others would wait for this process
        raise ZooError(problem)
    if world.first(stopped() or None):
        return None
    gathered = [record for part in world.gather(records) for record in part]
    metrics: Metrics = {}
    try:
        metrics = _metrics(model, data, gathered) if world.is_main else {}
    except ZooError as error:
        problem = str(error)
    if problem := world.first(problem):
        raise ZooError(problem)
    return world.broadcast(metrics)


def _detector(model: GeneralizedRCNN) -> Detect:
    @torch.no_grad()
    def detect(image: Tensor) -> Instances:
        batch = model.preprocessing.batch([model.preprocessing.resize(image)], next(model.parameters()))
        (raw,) = model.run(batch, [(image.shape[1], image.shape[2])])
        return model.finish(raw.to("cpu"), encoded=True)

    return detect


def _record(data: ValidationSet, image_id: ImageId, found: Instances) -> dict[str, Any]:
    """What was found in one picture, with the annotations' ids, and small enough to be sent on."""
    found = replace(found, categories=data.categories)
    rows = [row for row in detection_rows(found, image_id) if row["category_id"] in data.scored]
    record: dict[str, Any] = {"detections": rows}
    if data.panoptic is not None and found.panoptic is not None:
        record |= _panoptic_record(data, image_id, found, found.panoptic)
    return record


def _panoptic_record(
    data: ValidationSet, image_id: ImageId, found: Instances, panoptic: PanopticResult
) -> dict[str, Any]:
    truth = data.read_segments(image_id, found.image_size)
    mine = SegmentMap.from_result(image_id, panoptic, data.categories)
    labels = semantic_truth(truth, data.categories)
    semantic = panoptic.semantic.numpy()
    return {
        "segments": match_segments(truth, mine, data.categories),
        "semantic": count_confusion(image_id, labels, semantic, data.categories),
    }


def _metrics(model: GeneralizedRCNN, data: ValidationSet, records: list[dict[str, Any]]) -> Metrics:
    found: Metrics = {}
    if any("segments" in record for record in records):  # augmentation gives no panoptic map
        segments = _of_scored((r["segments"] for r in records), data.scored)
        quality = panoptic_quality(segments, data.categories).all
        semantic = semantic_metrics((r["semantic"] for r in records), data.categories)
        found |= {"panoptic_seg/PQ": quality.pq, "panoptic_seg/SQ": quality.sq, "panoptic_seg/RQ": quality.rq}
        found["sem_seg/mIoU"] = semantic.miou
    rows = [row for record in records for row in record["detections"]]
    if model.has_masks:
        found |= _detection_metrics(data, rows, "segm")
    if data.truth.has_boxes:
        found |= _detection_metrics(data, rows, "bbox")
    return {name: None if value is None else 100 * value for name, value in found.items()}


def _of_scored(records: Iterable[PanopticRecord], scored: frozenset[int]) -> Iterator[PanopticRecord]:
    """Without classes that the annotations lack, of which every segment would be a mistake."""
    for record in records:
        matches = [match for match in record["categories"] if match["category_id"] in scored]
        yield {"image_id": record["image_id"], "categories": matches}


def _detection_metrics(data: ValidationSet, rows: list[dict[str, Any]], kind: Any) -> Metrics:
    measured = evaluate_detections(data.truth, rows, kind)
    found = {f"{kind}/{name}": getattr(measured, field) for name, field in _DETECTION.items()}
    classes = zip(data.categories.thing_labels, data.categories.thing_ids, strict=True)
    per_category = measured.per_category
    return found | {f"{kind}/AP-{name}": per_category.get(category_id) for name, category_id in classes}
