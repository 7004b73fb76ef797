"""Targets of a training step: checked, then brought to the model's device.

A wrong target would otherwise show as a NaN much later or, on an accelerator, end the process.

Legend: N images, G targets, K classes, H and W of the model's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.errors import DataError, ShapeError, shown, some
from resnest_zoo.structures import ImageBatch, Polygons, SizeHW, Targets


def read_targets(targets: Sequence[Targets | Mapping[str, Any]], categories: Categories) -> list[Targets]:
    """The targets with torchvision's dicts made ours.

    Of a dict these keys count: `boxes`, (G, 4) xyxy; `labels`, int64 (G,), the category ids, which are
    1 … K for classes that were only named, and those of the annotations for others; `masks`, where there are
    any, (G, H, W) bool or uint8 of 0 and 1; `semantic` as in `Targets`; `iscrowd`, where there is one, leaves
    out the crowds, which are no examples. 0 is the background and no label. Ours count classes from 0.

    Raises:
        DataError: a target is neither, a key is missing, a label is no category id, boxes are in another
            format, or masks hold other values.
        ShapeError: a tensor has the wrong shape or dtype.
    """
    return [
        target if isinstance(target, Targets) else _read_dict(target, f"targets of image {index}", categories)
        for index, target in enumerate(targets)
    ]


def _read_dict(target: object, where: str, categories: Categories) -> Targets:
    if not isinstance(target, Mapping):
        raise DataError(f"{where}: expected Targets or torchvision's dict, got {shown(target)}")
    boxes, labels = (_tensor(target, key, where) for key in ("boxes", "labels"))
    masks, semantic = (
        _tensor(target, key, where) if key in target else None for key in ("masks", "semantic")
    )
    boxes = boxes if boxes.is_floating_point() else boxes.float()  # of a file that has whole numbers
    form = getattr(getattr(target["boxes"], "format", None), "value", "XYXY")  # of a tv_tensors.BoundingBoxes
    if form != "XYXY":
        raise DataError(
            f"{where}: expected boxes as XYXY, got {form}; torchvision's box_convert changes them"
        )
    if labels.dim() != 1 or labels.dtype != torch.int64:
        raise ShapeError(f"{where}: expected int64 labels (G,), got {labels.dtype} {tuple(labels.shape)}")
    found = Targets(boxes, _classes_of(labels, where, categories), _bool_masks(masks, where), semantic)
    if "iscrowd" not in target:
        return found
    crowds = target["iscrowd"]  # a list where `wrap_dataset_for_transforms_v2` made it
    single = torch.as_tensor(crowds, device=labels.device) == 0
    masks = found.masks if isinstance(found.masks, Tensor) else None
    numbers = [len(boxes), len(single), *([] if masks is None else [len(masks)])]
    if single.dim() != 1 or set(numbers) != {len(labels)}:
        raise ShapeError(f"{where}: expected boxes, iscrowd and masks of {len(labels)} labels, got {numbers}")
    masks = None if masks is None else masks[single]
    return replace(found, boxes=boxes[single], classes=found.classes[single], masks=masks)


def _tensor(target: Mapping[str, Any], key: str, where: str) -> Tensor:
    if key not in target:
        raise DataError(
            f"{where}: expected a dict with boxes and labels, got one of {some(map(str, target))}"
        )
    if not isinstance(target[key], Tensor):
        raise DataError(f"{where}: expected {key} as a tensor, got {shown(target[key])}")
    plain: Tensor = target[key].as_subclass(Tensor)  # of torchvision's tv_tensors
    return plain


def _classes_of(labels: Tensor, where: str, categories: Categories) -> Tensor:
    """The class of each category id."""
    classes = torch.full_like(labels, -1)
    for index, category_id in enumerate(categories.thing_ids):
        if category_id != 0:
            classes[labels == category_id] = index
    if len(wrong := labels[classes < 0]):
        known = some(f"{i} {name}" for i, name in zip(categories.thing_ids, categories.things, strict=True))
        raise DataError(
            f"{where}: expected labels that are category ids ({known}), got {int(wrong[0])}; 0 is the "
            "background of torchvision and no label. resnest_zoo.structures.Targets counts classes from 0"
        )
    return classes


def _bool_masks(masks: Tensor | None, where: str) -> Tensor | None:
    if masks is None or masks.dtype == torch.bool:
        return masks
    if masks.dtype != torch.uint8 or bool((masks > 1).any()):
        raise DataError(
            f"{where}: expected masks of bool, or uint8 of 0 and 1, got {masks.dtype}{_beyond(masks)}"
        )
    return masks.bool()


def _beyond(masks: Tensor) -> str:
    return f" up to {int(masks.max())}" if masks.dtype == torch.uint8 else ""


def prepare_targets(
    targets: Sequence[Targets], batch: ImageBatch, num_classes: int, needs_masks: bool
) -> list[Targets]:
    """The targets on the batch's device, their boxes in its precision, float32 at least.

    Raises:
        ShapeError: pictures and targets differ in number, or a tensor has the wrong shape or dtype.
        DataError: a box is empty or not finite, a class is out of range, or masks are missing or wrong.
    """
    _check_number(targets, batch)
    for index, (target, size) in enumerate(zip(targets, batch.image_sizes, strict=True)):
        where = f"targets of image {index}"
        _check_boxes(target, where, num_classes)
        if needs_masks:
            _check_masks(target, where, size)
    dtype = torch.promote_types(batch.tensor.dtype, torch.float32)
    moved = [target.to(batch.tensor.device) for target in targets]
    return [replace(target, boxes=target.boxes.to(dtype)) for target in moved]


def stack_semantic(
    targets: Sequence[Targets], batch: ImageBatch, num_classes: int, ignore_value: int
) -> Tensor:
    """The semantic classes of the padded batch, (N, H, W) int64, the padding ignored.

    Raises:
        ShapeError: pictures and targets differ in number, a map has not the size of its picture, or is not
            int64.
        DataError: a map is missing, or a class is neither in 0 … K-1 nor `ignore_value`.
    """
    _check_number(targets, batch)
    height, width = batch.tensor.shape[-2:]
    stacked = torch.full((len(targets), height, width), ignore_value, device=batch.tensor.device)
    for index, (target, size) in enumerate(zip(targets, batch.image_sizes, strict=True)):
        where, semantic = f"targets of image {index}", target.semantic
        if semantic is None:
            raise DataError(f"{where}: this model learns semantic classes; set Targets.semantic")
        if semantic.shape != size or semantic.dtype != torch.int64:
            raise ShapeError(
                f"{where}: expected an int64 semantic map of the picture's size {size}, "
                f"got {semantic.dtype} {tuple(semantic.shape)}"
            )
        wrong = ((semantic < 0) | (semantic >= num_classes)) & (semantic != ignore_value)
        if wrong.any():
            raise DataError(
                f"{where}: expected semantic classes 0 … {num_classes - 1} or {ignore_value} to ignore, "
                f"got {int(semantic[wrong][0])}"
            )
        stacked[index, : size[0], : size[1]] = semantic
    return stacked


def _check_number(targets: Sequence[Targets], batch: ImageBatch) -> None:
    if len(targets) != len(batch.image_sizes):
        raise ShapeError(f"{len(batch.image_sizes)} images but {len(targets)} targets")


def _check_boxes(target: Targets, where: str, num_classes: int) -> None:
    boxes, classes = target.boxes, target.classes
    if boxes.dim() != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ShapeError(f"{where}: expected float boxes (G, 4), got {boxes.dtype} {tuple(boxes.shape)}")
    if classes.shape != (len(boxes),) or classes.dtype != torch.int64:
        raise ShapeError(
            f"{where}: expected {len(boxes)} int64 classes for as many boxes, "
            f"got {classes.dtype} {tuple(classes.shape)}"
        )
    good = boxes.isfinite().all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    if not good.all():
        raise DataError(
            f"{where}: expected finite boxes x0, y0, x1, y1 with x0 < x1 and y0 < y1, "
            f"got {boxes[~good][0].tolist()}; leave such instances out"
        )
    wrong = (classes < 0) | (classes >= num_classes)
    if wrong.any():
        raise DataError(f"{where}: expected classes 0 … {num_classes - 1}, got {int(classes[wrong][0])}")


def _check_masks(target: Targets, where: str, size: SizeHW) -> None:
    masks, count = target.masks, len(target)
    if masks is None:
        raise DataError(f"{where}: this model learns masks; set Targets.masks to polygons or bitmasks")
    if isinstance(masks, Tensor):
        if masks.shape != (count, *size) or masks.dtype != torch.bool:
            raise ShapeError(
                f"{where}: expected bool masks {(count, *size)}, got {masks.dtype} {tuple(masks.shape)}"
            )
        return
    if len(masks) != count:
        raise ShapeError(f"{where}: expected the polygons of {count} instances, got those of {len(masks)}")
    _check_polygons(masks, where)


def _check_polygons(masks: Polygons, where: str) -> None:
    for polygons in masks:
        for polygon in polygons:
            if len(polygon) < 6 or len(polygon) % 2:
                raise DataError(
                    f"{where}: expected polygons x0, y0, x1, y1, … of at least three points, "
                    f"got {len(polygon)} numbers"
                )
