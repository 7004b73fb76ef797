"""Semantic targets from COCO's panoptic annotations: a JSON file and a folder of PNG files.

A PNG holds at each pixel the id of its segment, R + 256 G + 65536 B, and the JSON the category of each
segment. Every thing is semantic class 0, stuff counts from 1, and what belongs to no segment is ignored.

Source: detectron2, datasets/prepare_panoptic_fpn.py, which writes the same to files beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from resnest_zoo.annotations.tables import ImageId, SegmentInfo, image_id_of, read_segments
from resnest_zoo.categories import Categories
from resnest_zoo.data.file_names import FileNames
from resnest_zoo.data.problems import Problem, Problems
from resnest_zoo.errors import DataError, ImageError

_MAX_ID = 2**24 - 1  # three bytes of a PNG's pixel
_MAX_CLASS = 254  # maps are uint8, and one value is left for what is ignored


@dataclass(frozen=True)
class PanopticFiles:
    """Where the panoptic annotations of a data set are.

    Attributes:
        annotations: JSON in COCO's panoptic layout.
        folder: of the PNG files that it names.
    """

    annotations: Path
    folder: Path


@dataclass(frozen=True)
class SegmentMap:
    """The panoptic annotation of one picture.

    Attributes:
        file: PNG of segment ids.
        segments: (segment id, semantic class) of each segment.
    """

    file: Path
    segments: tuple[tuple[int, int], ...]

    def read_semantic(self, size: tuple[int, int], ignore_value: int) -> npt.NDArray[np.uint8]:
        """The semantic class of each pixel.

        Args:
            size: (height, width) of the picture.
            ignore_value: of pixels that belong to no segment, at most 255.

        Returns:
            (H, W) uint8.

        Raises:
            ImageError: the file cannot be read, is no RGB picture, or has another size.
        """
        pixels = _read_rgb(self.file)
        if pixels.shape[:2] != size:
            raise ImageError(
                f"{self.file}: has height and width {pixels.shape[:2]}, but its picture has {size}"
            )
        ids = pixels @ np.array([1, 256, 65536], dtype=np.int32)  # (H, W)
        semantic = np.full(size, ignore_value, dtype=np.uint8)
        for segment_id, semantic_class in self.segments:
            semantic[ids == segment_id] = semantic_class
        return semantic


def _read_rgb(file: Path) -> npt.NDArray[np.int32]:
    """(H, W, 3). Colours are ids here, so that nothing may be converted."""
    try:
        with Image.open(file) as picture:
            if picture.mode != "RGB":
                raise ImageError(f"{file}: expected an RGB picture of segment ids, got mode {picture.mode!r}")
            return np.asarray(picture, dtype=np.int32)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow's word for a damaged PNG
        raise ImageError(f"{file}: cannot be read as a picture of segment ids: {error}") from error


def semantic_classes(categories: Categories) -> dict[int, int]:
    """The semantic class of each category id.

    Raises:
        DataError: the categories have no stuff, or more than a map can hold.
    """
    if not categories.stuff:
        raise DataError("panoptic annotations need stuff classes, but the categories have none")
    if len(categories.stuff) > _MAX_CLASS + 1:
        raise DataError(f"{len(categories.stuff)} stuff classes, but a semantic map holds {_MAX_CLASS + 1}")
    stuff = {category_id: k for k, category_id in enumerate(categories.stuff_ids) if k > 0}
    return dict.fromkeys(categories.thing_ids, 0) | stuff


def read_segment_maps(
    data: dict[str, Any], folder: Path, classes: dict[int, int], problems: Problems
) -> dict[ImageId, SegmentMap | None]:
    """The panoptic annotation of each picture's id; None where there is a bad one.

    Args:
        data: the content of the JSON.
        folder: of the PNG files.
        classes: the semantic class of each category id.
        problems: gets what is wrong.
    """
    present = FileNames(folder)
    maps: dict[ImageId, SegmentMap | None] = {}
    for annotation in data["annotations"]:
        image_id, name = image_id_of(annotation.get("image_id")), annotation.get("file_name")
        segments = read_segments(annotation)
        label = f"{annotation.get('image_id')} ({name})"
        found = None
        if image_id is None or not isinstance(name, str) or segments is None:
            problems.add(Problem.PANOPTIC_MALFORMED, label)
        elif len({s.id for s in segments if 1 <= s.id <= _MAX_ID}) < len(segments):
            problems.add(Problem.PANOPTIC_IDS, label)
        elif name not in present:
            problems.add(Problem.PANOPTIC_FILE_MISSING, label + present.hint(name))
        else:
            found = SegmentMap(folder / name, tuple(_known_segments(segments, classes, label, problems)))
        if image_id is not None:
            maps[image_id] = found
    return maps


def _known_segments(
    segments: Sequence[SegmentInfo], classes: dict[int, int], label: str, problems: Problems
) -> Iterator[tuple[int, int]]:
    for segment in segments:
        category_id = segment.category_id
        if category_id in classes:
            yield segment.id, classes[category_id]
        elif category_id != 0:  # which stands for unlabelled
            problems.add(Problem.PANOPTIC_CATEGORY, f"{label}: {category_id}")
