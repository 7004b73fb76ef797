"""Reads data sets in COCO's JSON and checks them as a whole, before anything is trained.

Source: detectron2, data/datasets/coco.py, `load_coco_json`, and data/build.py, `get_detection_dataset_dicts`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnest_zoo.categories import Categories
from resnest_zoo.data.dataset import Dataset, Record, Segmentation
from resnest_zoo.data.file_names import FileNames
from resnest_zoo.data.panoptic import (
    PanopticFiles,
    SegmentMap,
    read_segment_maps,
    semantic_classes,
)
from resnest_zoo.data.problems import Problem, Problems
from resnest_zoo.data.segmentation import is_polygon, is_rle
from resnest_zoo.errors import DataError, shown
from resnest_zoo.structures import SizeHW

logger = logging.getLogger(__name__)

_BORDER_TOLERANCE = 1.0  # pixels: tools round, and some count a box's last pixel in

_Row = dict[str, Any]
_SegmentMaps = dict[Any, SegmentMap | None]


def read_dataset(
    annotations: str | Path,
    images_dir: str | Path,
    categories: Categories | None = None,
    *,
    panoptic: PanopticFiles | None = None,
    masks: bool = False,
    filter_empty: bool = True,
    skip_bad: bool = False,
) -> Dataset:
    """Read a data set for training; its pictures stand by rising id.

    Crowds are left out. Boxes that pass the border by rounding are kept; samples cut them.

    Args:
        annotations: JSON in COCO's layout of instances.
        images_dir: folder from which the pictures' file names start.
        categories: the model's classes and their ids; without, those of the files, by rising id.
        panoptic: where the panoptic annotations are, for semantic targets.
        masks: whether segmentations are needed; without, they are neither kept nor checked.
        filter_empty: whether to leave out pictures without annotations, FILTER_EMPTY_ANNOTATIONS.
        skip_bad: whether to log what is bad and go on without it, instead of raising.

    Raises:
        DataError: a file cannot be read or has another layout; no picture is left; masks are needed and there
            are none; or pictures or annotations are bad, of which all are listed. COCO's train2017 itself
            holds two boxes without height.
        ConfigError: the files' categories have repeated ids.
    """
    source = Path(annotations)
    data = _read_json(source, ("images", "annotations", "categories"))
    if masks:
        _require_masks(source, data["annotations"], boxes_would_do=panoptic is None)
    semantic = None if panoptic is None else _read_json(panoptic.annotations, ("annotations", "categories"))
    named = _categories_of(data["categories"], None if semantic is None else semantic["categories"])
    categories = categories or named
    _warn_of_names(source, categories, named)

    problems = Problems()
    segment_maps = None
    if panoptic is not None and semantic is not None:
        segment_maps = read_segment_maps(semantic, panoptic.folder, semantic_classes(categories), problems)
    pictures = _read_pictures(data["images"], Path(images_dir), segment_maps, problems)
    grouped = _group(source, data, problems)
    reader = _AnnotationReader(categories, masks, problems)
    dataset = Dataset(categories, _records(pictures, grouped, reader, filter_empty))
    if problems:
        if not skip_bad:
            problems.refuse(str(source))
        logger.warning("%s: passed over (problems: %d):\n%s", source, len(problems), problems.report())
    if not len(dataset):
        raise DataError(f"{source}: no picture{' with annotations' if filter_empty else ''} is left")
    logger.info("%s: %d pictures, of %d in the file", source, len(dataset), len(data["images"]))
    return dataset


def _require_masks(source: Path, annotations: list[_Row], *, boxes_would_do: bool) -> None:
    """Boxes alone are not as many mistakes, but the wrong data for the model."""
    if annotations and not any(row.get("segmentation") for row in annotations):
        advice = "; to learn boxes alone set MODEL.MASK_ON False" if boxes_would_do else ""
        raise DataError(
            f"{source}: expected annotations with a segmentation, which masks are learnt from, got "
            f"{len(annotations)} without{advice}"
        )


def read_categories(annotations: str | Path, panoptic: PanopticFiles | None = None) -> Categories:
    """The categories that annotation files list: things by rising id, of panoptic ones also stuff.

    Raises:
        DataError: a file cannot be read or has another layout.
        ConfigError: ids are repeated.
    """
    data = _read_json(Path(annotations), ("categories",))
    semantic = None if panoptic is None else _read_json(panoptic.annotations, ("categories",))
    return _categories_of(data["categories"], None if semantic is None else semantic["categories"])


def _read_json(file: Path, keys: tuple[str, ...]) -> _Row:
    try:
        with file.open("rb") as stream:
            data = json.load(stream)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{file}: is not JSON: {error}") from error
    for key in keys:
        rows = data.get(key) if isinstance(data, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{file}: is not in COCO's layout: expected a list of objects under {key!r}")
    layout: _Row = data
    return layout


def _categories_of(things: list[_Row], panoptic: list[_Row] | None) -> Categories:
    """Things by rising id; of panoptic files also stuff, after class 0, which stands for things."""
    names, ids = _names_and_ids(things)
    if panoptic is None:
        return Categories(names, ids)
    stuff, stuff_ids = _names_and_ids([row for row in panoptic if not row.get("isthing")])
    return Categories(names, ids, ("things", *stuff), (0, *stuff_ids))


def _names_and_ids(rows: list[_Row]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    bad = [row for row in rows if type(row.get("id")) is not int or not isinstance(row.get("name"), str)]
    if bad:
        raise DataError(f"categories need a whole number as 'id' and a text as 'name', got {shown(bad[0])}")
    rows = sorted(rows, key=lambda row: int(row["id"]))
    return tuple(row["name"] for row in rows), tuple(row["id"] for row in rows)


def _warn_of_names(source: Path, expected: Categories, found: Categories) -> None:
    """Classes in another order than the annotations' train without an error, and wrongly."""
    names = dict(zip(found.thing_ids, found.things, strict=True))
    pairs = zip(expected.thing_ids, expected.things, strict=True)
    other = [
        f"{k} is {shown(names[k])}, not {shown(name)}" for k, name in pairs if names.get(k, name) != name
    ]
    if other:
        logger.warning("%s: category ids have other names there: %s", source, "; ".join(other[:10]))


@dataclass(frozen=True)
class _Picture:
    """A picture without its annotations."""

    file: Path
    size: SizeHW
    segment_map: SegmentMap | None


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _side(value: Any) -> int:
    """A picture's height or width, which some tools write as 480.0; 0 for what is none."""
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if whole and 1 <= value < 2**31 else 0


def _read_pictures(
    rows: list[_Row], folder: Path, segment_maps: _SegmentMaps | None, problems: Problems
) -> dict[Any, _Picture]:
    """The usable pictures by id: numbers rise, then texts."""
    present = FileNames(folder)
    pictures: dict[Any, _Picture] = {}
    seen = set()
    for row in rows:
        image_id, name = row.get("id"), row.get("file_name")
        size = _side(row.get("height")), _side(row.get("width"))
        label = f"{image_id} ({name})"
        if not (_is_id(image_id) and name and isinstance(name, str) and all(size)):
            problems.add(Problem.PICTURE_MALFORMED, label)
        elif image_id in seen:
            problems.add(Problem.PICTURE_REPEATED, label)
        elif name not in present:
            problems.add(Problem.FILE_MISSING, label + present.hint(name))
        elif segment_maps is not None and image_id not in segment_maps:
            problems.add(Problem.PANOPTIC_MISSING, label)
        elif segment_maps is None:
            pictures[image_id] = _Picture(folder / name, size, None)
        elif segment_maps[image_id] is not None:  # else its problem is noted already
            pictures[image_id] = _Picture(folder / name, size, segment_maps[image_id])
        seen.add(image_id if _is_id(image_id) else None)
    return dict(sorted(pictures.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _label(annotation: _Row) -> str:
    return f"{annotation.get('id')} (picture {annotation.get('image_id')})"


def _group(source: Path, data: _Row, problems: Problems) -> dict[Any, list[_Row]]:
    """The annotations of each picture, crowds left out."""
    grouped: dict[Any, list[_Row]] = {row["id"]: [] for row in data["images"] if _is_id(row.get("id"))}
    seen = set()
    strays = 0
    for annotation in data["annotations"]:
        image_id, annotation_id = annotation.get("image_id"), annotation.get("id")
        if not _is_id(image_id) or not _is_id(annotation.get("category_id")):
            problems.add(Problem.ANNOTATION_MALFORMED, _label(annotation))
        elif _is_id(annotation_id) and annotation_id in seen:
            problems.add(Problem.ANNOTATION_REPEATED, _label(annotation))
        elif image_id not in grouped:
            strays += 1
        elif not annotation.get("iscrowd"):
            grouped[image_id].append(annotation)
        seen.add(annotation_id if _is_id(annotation_id) else None)
    if strays:
        logger.warning("%s: %d annotations belong to no picture of the file", source, strays)
    return grouped


class _AnnotationReader:
    """Checks annotations and takes from them what training needs."""

    def __init__(self, categories: Categories, masks: bool, problems: Problems) -> None:
        self.classes = {category_id: k for k, category_id in enumerate(categories.thing_ids)}
        self.masks = masks
        self.problems = problems

    def read(self, annotation: _Row, size: SizeHW) -> tuple[list[float], int, Segmentation | None] | None:
        """Box, class and, where needed, segmentation; None where these cannot be used."""
        found = list(self._flaws(annotation, size))
        for problem in found:
            detail = f": {annotation['category_id']}" if problem is Problem.CATEGORY_UNKNOWN else ""
            self.problems.add(problem, _label(annotation) + detail)
        segmentation = annotation.get("segmentation") if self.masks else None
        if Problem.POLYGON_MALFORMED in found:
            segmentation = [polygon for polygon in segmentation or [] if is_polygon(polygon)]
        usable = set(found) <= {Problem.BOX_BEYOND, Problem.POLYGON_MALFORMED}
        if not usable or (self.masks and not segmentation):
            return None
        return annotation["bbox"], self.classes[annotation["category_id"]], segmentation

    def _flaws(self, annotation: _Row, size: SizeHW) -> Iterator[Problem]:
        if annotation.get("ignore"):
            yield Problem.ANNOTATION_IGNORED
        if annotation["category_id"] not in self.classes:
            yield Problem.CATEGORY_UNKNOWN
        yield from _flaws_of_box(annotation.get("bbox"), size)
        if self.masks:
            yield from _flaws_of_segmentation(annotation.get("segmentation"), size)


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and -1e9 < value < 1e9  # which NaN is not


def _flaws_of_box(box: Any, size: SizeHW) -> Iterator[Problem]:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_coordinate, box)):
        yield Problem.BOX_MALFORMED
        return
    x0, y0, width, height = box
    x1, y1 = x0 + width, y0 + height
    beyond = max(-x0, -y0, x1 - size[1], y1 - size[0])
    if width <= 0 or height <= 0:
        yield Problem.BOX_FLAT
    elif x0 >= size[1] or y0 >= size[0] or x1 <= 0 or y1 <= 0:
        yield Problem.BOX_OUTSIDE
    elif beyond > _BORDER_TOLERANCE:
        yield Problem.BOX_BEYOND


def _flaws_of_segmentation(segmentation: Any, size: SizeHW) -> Iterator[Problem]:
    if not segmentation:
        yield Problem.MASK_MISSING
    elif isinstance(segmentation, dict):
        if not is_rle(segmentation, size):
            yield Problem.RLE_MALFORMED
    elif not isinstance(segmentation, list) or not all(map(is_polygon, segmentation)):
        yield Problem.POLYGON_MALFORMED


def _records(
    pictures: dict[Any, _Picture],
    grouped: dict[Any, list[_Row]],
    reader: _AnnotationReader,
    filter_empty: bool,
) -> Iterator[Record]:
    for image_id, picture in pictures.items():
        read = (reader.read(annotation, picture.size) for annotation in grouped[image_id])
        usable = [taken for taken in read if taken is not None]
        if not usable and filter_empty:
            continue
        yield Record(
            picture.file,
            image_id,
            picture.size,
            boxes=[box for box, _, _ in usable],
            classes=[k for _, k, _ in usable],
            segmentations=[s for _, _, s in usable if s is not None] if reader.masks else None,
            segment_map=picture.segment_map,
        )
