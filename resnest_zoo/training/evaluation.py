"""Evaluation while training: the model on a validation set, shared by all processes.

COCO's box and mask AP, panoptic quality and semantic IoU, in percent, by detectron2's names: "bbox/AP",
"segm/AP50", "bbox/AP-person", "panoptic_seg/PQ", "sem_seg/mIoU"; of several sets "coco_2017_val/bbox/AP" and
so on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from resnest_zoo.annotations.tables import ImageId
from resnest_zoo.data.file_names import file_hint
from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.data.sizes import check_sizes, read_sized_picture
from resnest_zoo.data.workers import read_ahead
from resnest_zoo.distributed import World
from resnest_zoo.errors import DataError, ZooError, shown
from resnest_zoo.evaluation.coco_json import DetectionTruth, load_truth
from resnest_zoo.evaluation.detection import evaluate_detections
from resnest_zoo.evaluation.panoptic import match_segments, panoptic_quality, read_segment_map
from resnest_zoo.evaluation.results import detection_rows
from resnest_zoo.evaluation.segments import SegmentMap
from resnest_zoo.evaluation.semantic import count_confusion, semantic_metrics, semantic_truth
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import Instances, PanopticResult, SizeHW

Metrics = dict[str, float | None]
Detect = Callable[[Tensor], Instances]  # of an RGB uint8 picture (3, H, W); result on the CPU, masks encoded

_Picture = tuple[ImageId, Path, SizeHW | None]

_DETECTION = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "APs": "ap_small",
    "APm": "ap_medium",
    "APl": "ap_large",
}


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Annotated pictures; `read_validation_set` makes it.

    Attributes:
        truth: boxes and masks.
        pictures: id, file and, where the annotations state it, height and width of each.
        panoptic: the panoptic annotation of each picture by its id; None where the model has no such output.
        panoptic_folder: of their PNG files.
    """

    truth: DetectionTruth
    pictures: tuple[_Picture, ...]
    panoptic: dict[Any, Any] | None = None
    panoptic_folder: Path | None = None


def read_validation_set(
    annotations: Path,
    images_dir: Path,
    model: GeneralizedRCNN,
    panoptic: PanopticFiles | None = None,
    world: World | None = None,
) -> ValidationSet:
    """Read a validation set and check, before anything is trained, that `model` can be measured on it.

    Args:
        annotations: JSON in COCO's layout of instances.
        images_dir: folder of the pictures.
        model: with or without masks and panoptic output.
        panoptic: the panoptic annotations; without, only boxes and masks are measured.
        world: processes that all call this together, and share the work.

    Raises:
        DataError: a file cannot be read or has another layout, pictures are missing or not of the size that
            the annotations state, or these have no object that counts, lack a class of the model or, where it
            has masks, a mask.
    """
    truth = load_truth(annotations)
    truth.check_objects()
    if model.roi_heads.mask_head is not None:
        truth.check_masks()
    lacking = set(model.categories.thing_ids) - set(truth.category_ids)
    if lacking:
        raise DataError(f"{annotations}: its categories lack ids of the model's classes: {sorted(lacking)}")
    rows = _read_rows(annotations, "images", "file_name")
    sizes = dict(zip(truth.image_ids, map(tuple, truth.sizes.tolist()), strict=True))
    pictures = tuple((row["id"], images_dir / row["file_name"], _known(sizes[row["id"]])) for row in rows)
    missing = [file for _, file, _ in pictures if not file.is_file()]
    if missing:
        some = ", ".join(f"{file}{file_hint(file)}" for file in missing[:10])
        raise DataError(f"{annotations}: {len(missing)} of {len(pictures)} pictures are missing: {some}")
    _check_sizes(pictures, annotations, world or World())
    if panoptic is None or not model.categories.stuff:
        return ValidationSet(truth, pictures)
    rows = _read_rows(panoptic.annotations, "annotations", "file_name")
    by_id = {row.get("image_id"): row for row in rows}
    if lacking := {image_id for image_id, _, _ in pictures} - set(by_id):
        raise DataError(f"{panoptic.annotations}: lacks the pictures {sorted(lacking)[:10]}")
    return ValidationSet(truth, pictures, by_id, panoptic.folder)


def _known(size: SizeHW) -> SizeHW | None:
    return size if all(size) else None


def _check_sizes(pictures: tuple[_Picture, ...], annotations: Path, world: World) -> None:
    own = [(file, size) for _, file, size in pictures[world.rank :: world.size]]
    if problem := world.first(check_sizes(own)):
        raise DataError(f"{annotations}: {problem}")


def _read_rows(file: Path, key: str, text: str) -> list[dict[str, Any]]:
    """The objects that a JSON file lists under `key`, each with a text of that name.

    Raises:
        DataError: it cannot be read, or has another layout.
    """
    try:
        rows = json.loads(file.read_bytes())[key]
        wrong = next((row for row in rows if not isinstance(row[text], str)), None)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{file}: expected objects with {text!r} under {key!r}: {error!r}") from error
    if wrong is not None:
        raise DataError(f"{file}: expected a text as {text!r}, got {shown(wrong)}")
    checked: list[dict[str, Any]] = rows
    return checked


class _Reader(TorchDataset[tuple[ImageId, "Tensor | ZooError"]]):
    """Reads pictures; a problem is returned, since a worker would bury it in its traceback."""

    def __init__(self, pictures: tuple[_Picture, ...]) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[ImageId, Tensor | ZooError]:
        image_id, file, size = self.pictures[index]
        try:
            return image_id, read_sized_picture(file, size)
        except ZooError as error:
            return image_id, error


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
        for image_id, image in read_ahead(_Reader(mine).__getitem__, range(len(mine)), workers):
            if isinstance(image, ZooError):
                raise image
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
    return world.broadcast(_metrics(model, data, gathered) if world.is_main else {})


def _detector(model: GeneralizedRCNN) -> Detect:
    @torch.no_grad()
    def detect(image: Tensor) -> Instances:
        batch = model.preprocessing.batch([model.preprocessing.resize(image)], next(model.parameters()))
        (raw,) = model.run(batch, [(image.shape[1], image.shape[2])])
        return model.finish(raw.to("cpu"), encoded=True)

    return detect


def _record(data: ValidationSet, image_id: ImageId, found: Instances) -> dict[str, Any]:
    """What was found in one picture, small enough to be sent to another process."""
    record: dict[str, Any] = {"detections": detection_rows(found, image_id)}
    if data.panoptic is not None and found.panoptic is not None:
        record |= _panoptic_record(data, found, found.panoptic, data.panoptic[image_id])
    return record


def _panoptic_record(
    data: ValidationSet, found: Instances, panoptic: PanopticResult, annotation: Any
) -> dict[str, Any]:
    assert data.panoptic_folder is not None
    ids = read_segment_map(data.panoptic_folder / annotation["file_name"], found.image_size)
    truth = SegmentMap.from_coco(ids, annotation)
    mine = SegmentMap.from_result(truth.image_id, panoptic, found.categories)
    labels = semantic_truth(truth, found.categories)
    semantic = panoptic.semantic.numpy()
    return {
        "segments": match_segments(truth, mine, found.categories),
        "semantic": count_confusion(truth.image_id, labels, semantic, found.categories),
    }


def _metrics(model: GeneralizedRCNN, data: ValidationSet, records: list[dict[str, Any]]) -> Metrics:
    found: Metrics = {}
    if any("segments" in record for record in records):  # augmentation gives no panoptic map
        quality = panoptic_quality((r["segments"] for r in records), model.categories).all
        semantic = semantic_metrics((r["semantic"] for r in records), model.categories)
        found |= {"panoptic_seg/PQ": quality.pq, "panoptic_seg/SQ": quality.sq, "panoptic_seg/RQ": quality.rq}
        found["sem_seg/mIoU"] = semantic.miou
    rows = [row for record in records for row in record["detections"]]
    if model.roi_heads.mask_head is not None:
        found |= _detection_metrics(model, data, rows, "segm")
    found |= _detection_metrics(model, data, rows, "bbox")
    return {name: None if value is None else 100 * value for name, value in found.items()}


def _detection_metrics(
    model: GeneralizedRCNN, data: ValidationSet, rows: list[dict[str, Any]], kind: Any
) -> Metrics:
    measured = evaluate_detections(data.truth, rows, kind)
    found = {f"{kind}/{name}": getattr(measured, field) for name, field in _DETECTION.items()}
    classes = zip(model.categories.thing_labels, model.categories.thing_ids, strict=True)
    return found | {f"{kind}/AP-{name}": measured.per_category[category_id] for name, category_id in classes}
