"""From a record to what a training step takes: the picture at training size, and its targets.

Legend: G targets, H and W height and width of the model's input.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resnest_zoo.annotations.masks import decode_rle
from resnest_zoo.config import Input
from resnest_zoo.data.dataset import Record, Segmentation
from resnest_zoo.data.segmentation import Polygon, rasterize_polygons
from resnest_zoo.data.sizes import read_sized_picture
from resnest_zoo.data.transforms import Transform, draw_transform
from resnest_zoo.ops.boxes import nonempty
from resnest_zoo.structures import Polygons, Targets

_MIN_SIDE = 1e-5  # pixels; what a crop leaves of a box beside it
_Mask = list[Polygon] | npt.NDArray[np.uint8]


class Sample(NamedTuple):
    """One picture for training.

    Attributes:
        image: (3, H, W) uint8, RGB.
        targets: what is to be found there.
        image_id: as the annotations write it.
        file: of the picture.
    """

    image: Tensor
    targets: Targets
    image_id: int | str
    file: Path


def make_sample(record: Record, settings: Input, rng: np.random.Generator, ignore_value: int = 255) -> Sample:
    """Read a record's picture and transform it with its annotations.

    Args:
        record: of a data set.
        settings: what is drawn, INPUT.
        rng: source of all randomness.
        ignore_value: semantic class of unlabelled pixels, at most 255.

    Raises:
        ImageError: the picture or its panoptic file cannot be read.
        DataError: the picture's size is not the one that the annotations state.
    """
    image = read_sized_picture(record.file, record.size)
    transform = draw_transform(settings, record.size, rng)
    return Sample(
        transform.image(image),
        make_targets(record, transform, settings.mask_format == "bitmask", ignore_value),
        record.image_id,
        record.file,
    )


def make_targets(
    record: Record, transform: Transform, bitmasks: bool = False, ignore_value: int = 255
) -> Targets:
    """A record's annotations in pixels of the model's input.

    Targets whose box or mask is empty are left out. After a crop, boxes are drawn anew around the masks where
    there are any, since what is left of an object may be smaller than what is left of its box.

    Args:
        record: of a data set.
        transform: what the picture undergoes.
        bitmasks: whether masks become maps of pixels. Where any of the picture is a run-length encoding, they
            do so in any case: detectron2 refuses these among polygons.
        ignore_value: semantic class of unlabelled pixels.

    Raises:
        ImageError: the panoptic file cannot be read, or has another size than the picture.

    Source: detectron2, data/dataset_mapper.py; data/detection_utils.py, `transform_instance_annotations` and
    `filter_empty_instances`.
    """
    boxes = torch.from_numpy(transform.boxes(_corners(record.boxes))).float()  # (G, 4)
    masks = None
    if record.segmentations is not None:
        bitmasks = bitmasks or any(isinstance(s, dict) for s in record.segmentations)
        masks = [_transformed(s, transform, bitmasks) for s in record.segmentations]
        if transform.cropped:
            boxes = torch.tensor([_extent(mask) for mask in masks]).reshape(-1, 4)
    keep = nonempty(boxes, _MIN_SIDE)
    if masks is not None:
        keep &= torch.tensor([_is_filled(mask) for mask in masks], dtype=torch.bool)
        masks = [mask for mask, kept in zip(masks, keep.tolist(), strict=True) if kept]
    return Targets(
        boxes[keep],
        torch.tensor(record.classes, dtype=torch.int64)[keep],
        None if masks is None else _together(masks, transform, bitmasks),
        _semantic(record, transform, ignore_value),
    )


def _corners(boxes: list[list[float]]) -> npt.NDArray[np.float64]:
    """(G, 4) xyxy of boxes x, y, width, height. The sum is rounded to float32, as the reference's is."""
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners.astype(np.float64)


def _transformed(segmentation: Segmentation, transform: Transform, bitmask: bool) -> _Mask:
    if isinstance(segmentation, dict):
        return transform.labels(decode_rle(segmentation))
    polygons = transform.polygons([np.array(p, dtype=np.float64).reshape(-1, 2) for p in segmentation])
    return rasterize_polygons(polygons, transform.size) if bitmask else polygons


def _is_filled(mask: _Mask) -> bool:
    return bool(mask.any()) if isinstance(mask, np.ndarray) else len(mask) > 0


def _extent(mask: _Mask) -> list[float]:
    """The box xyxy around a mask, zeros for an empty one."""
    if not _is_filled(mask):
        return [0.0, 0.0, 0.0, 0.0]
    if isinstance(mask, np.ndarray):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        return [float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
    points = np.concatenate(mask)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def _together(masks: list[_Mask], transform: Transform, bitmasks: bool) -> Polygons | Tensor:
    if bitmasks:
        stacked = np.array(masks, dtype=bool).reshape(-1, *transform.size)
        return torch.from_numpy(stacked)  # (G, H, W)
    return [[polygon.ravel().tolist() for polygon in mask] for mask in masks]


def _semantic(record: Record, transform: Transform, ignore_value: int) -> Tensor | None:
    if record.segment_map is None:
        return None
    semantic = record.segment_map.read_semantic(record.size, ignore_value)
    return torch.from_numpy(transform.labels(semantic)).long()  # (H, W)
