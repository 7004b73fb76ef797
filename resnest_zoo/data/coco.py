"""Reads data sets in COCO's JSON and checks them as a whole, before anything is trained.

Source: detectron2, data/datasets/coco.py, `load_coco_json`, and data/build.py, `get_detection_dataset_dicts`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnest_zoo.annotations.masks import is_polygon, is_rle
from resnest_zoo.annotations.tables import (
    ImageId,
    Row,
    category_names,
    flag,
    image_id_of,
    number_anew,
    picture_size,
    read_tables,
    report_strays,
)
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
from resnest_zoo.errors import DataError, shown, some
from resnest_zoo.structures import SizeHW

logger = logging.getLogger(__name__)

_BORDER_TOLERANCE = 1.0  # pixels: tools round, and some count a box's last pixel in

_SegmentMaps = dict[ImageId, SegmentMap | None]


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

    Crowds are left out and counted, and classes that are left without an example are named, both in the log.
    Annotation ids that repeat are renumbered, with a note there. Boxes that pass the border by rounding are
    kept; samples cut them.

    Args:
        annotations: JSON in COCO's layout of instances.
        images_dir: folder from which the pictures' file names start.
        categories: the model's classes and their ids; without, those of the files, by rising id.
        panoptic: where the panoptic annotations are, for semantic targets.
        masks: whether segmentations are needed; without, they are neither kept nor checked.
        filter_empty: whether to leave out pictures without annotations, FILTER_EMPTY_ANNOTATIONS.
        skip_bad: whether to log what is bad and go on without it, instead of raising; later, too, when a
            picture turns out to be unreadable.

    Raises:
        DataError: a file cannot be read or has another layout; no picture, or of annotations none, is left;
            all of them are of pictures that the file does not list; masks are needed and there are none; or
            pictures or annotations are bad, of which all are listed. COCO's train2017 itself holds two boxes
            without height.
    """
    source = Path(annotations)
    data = read_tables(source, "images", "annotations", "categories")
    if masks:
        _require_masks(source, data["annotations"], boxes_would_do=panoptic is None)
    semantic = None if panoptic is None else read_tables(panoptic.annotations, "annotations", "categories")
    named = categories_of(data, source, semantic, panoptic)
    categories = categories or named
    _warn_of_names(source, categories, named)

    problems = Problems()
    segment_maps = None
    if panoptic is not None and semantic is not None:
        segment_maps = read_segment_maps(semantic, panoptic.folder, semantic_classes(categories), problems)
    pictures = _read_pictures(data["images"], Path(images_dir), segment_maps, problems)
    grouped, crowds = _group(source, data, problems)
    reader = _AnnotationReader(categories, masks, problems)
    records = _records(pictures, grouped, reader, filter_empty)
    dataset = Dataset(categories, records, skip_unreadable=skip_bad)
    if problems:
        if not skip_bad:
            problems.refuse(str(source))
        logger.warning("%s: passed over (problems: %d):\n%s", source, len(problems), problems.report())
    _report_emptiness(source, data["annotations"], crowds, reader.examples, categories)
    if not len(dataset):
        raise DataError(f"{source}: no picture{' with annotations' if filter_empty else ''} is left")
    logger.info("%s: %d pictures, of %d in the file", source, len(dataset), len(data["images"]))
    return dataset


def _require_masks(source: Path, annotations: list[Row], *, boxes_would_do: bool) -> None:
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
        DataError: a file cannot be read or has another layout, or category ids are repeated.
    """
    source = Path(annotations)
    data = read_tables(source, "categories")
    semantic = None if panoptic is None else read_tables(panoptic.annotations, "categories")
    return categories_of(data, source, semantic, panoptic)


def categories_of(
    data: Row, source: Path, semantic: Row | None = None, panoptic: PanopticFiles | None = None
) -> Categories:
    """Things by rising id; of panoptic files also stuff, after class 0, which stands for things.

    Args:
        data: what `read_tables` read of the annotations `source`.
        source: for messages, as `panoptic` is.
        semantic: the same of the panoptic annotations.
        panoptic: None without.

    Raises:
        DataError: categories lack an id or a name, repeat ids, or contradict each other.
    """
    things = category_names(data["categories"], source)
    if panoptic is None or semantic is None:
        return Categories(tuple(things.values()), tuple(things))
    file, rows = panoptic.annotations, semantic["categories"]
    names = category_names(rows, file)
    are_things = {row["id"]: flag(row.get("isthing")) for row in rows}
    unsaid = [f"{k} {names[k]!r}" for k, thing in are_things.items() if thing is None]
    if unsaid:
        raise DataError(
            f"{file}: categories need 'isthing', which is 0, 1, true or false; not so {len(unsaid)} of "
            f"{len(rows)}: {some(unsaid)}"
        )
    if not are_things.get(0, True):
        raise DataError(
            f"{file}: stuff {names[0]!r} has the category id 0, which stands for what is unlabelled"
        )
    other = [
        f"{k} is {names[k]!r}{'' if are_things[k] else ' and no thing'} there, but {name!r} in {source}"
        for k, name in things.items()
        if k in names and (names[k] != name or not are_things[k])
    ]
    if other:
        raise DataError(f"{file}: contradicts the annotations of instances: category {some(other)}")
    stuff = {k: name for k, name in names.items() if not are_things[k]}
    return Categories(tuple(things.values()), tuple(things), ("things", *stuff.values()), (0, *stuff))


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


def _read_pictures(
    rows: list[Row], folder: Path, segment_maps: _SegmentMaps | None, problems: Problems
) -> dict[ImageId, _Picture]:
    """The usable pictures by id: numbers rise, then texts."""
    present = FileNames(folder)
    pictures: dict[ImageId, _Picture] = {}
    seen: set[ImageId | None] = set()
    for row in rows:
        image_id, name = image_id_of(row.get("id")), row.get("file_name")
        size = picture_size(row)
        label = f"{row.get('id')} ({name})"
        if image_id is None or not (name and isinstance(name, str) and all(size)):
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
        seen.add(image_id)
    return dict(sorted(pictures.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _label(annotation: Row) -> str:
    return f"{annotation.get('id')} (picture {annotation.get('image_id')})"


def _group(source: Path, data: Row, problems: Problems) -> tuple[dict[ImageId, list[Row]], Counter[ImageId]]:
    """The annotations of each picture, and how many crowds were left out of each category."""
    rows = data["annotations"]
    if repeated := number_anew(rows):
        logger.warning(
            "%s: %d of %d annotations have an id that an earlier one has; all are renumbered, by their place "
            "in the file",
            *(source, repeated, len(rows)),
        )
    ids = [image_id_of(row.get("id")) for row in data["images"]]
    grouped: dict[ImageId, list[Row]] = {name: [] for name in ids if name is not None}
    crowds: Counter[ImageId] = Counter()
    strays: list[ImageId] = []
    for annotation in rows:
        image_id, category_id = (image_id_of(annotation.get(key)) for key in ("image_id", "category_id"))
        crowd = flag(annotation.get("iscrowd", 0))
        if image_id is None or category_id is None:
            problems.add(Problem.ANNOTATION_MALFORMED, _label(annotation))
        elif image_id not in grouped:
            strays.append(image_id)
        elif crowd is None:
            problems.add(Problem.CROWD_MALFORMED, f"{_label(annotation)}: {shown(annotation['iscrowd'])}")
        elif crowd:
            crowds[category_id] += 1
        else:
            grouped[image_id].append(annotation)
    report_strays(str(source), strays, len(rows), list(grouped))
    return grouped, crowds


def _report_emptiness(
    source: Path,
    annotations: list[Row],
    crowds: Counter[ImageId],
    examples: Counter[int],
    categories: Categories,
) -> None:
    """Count what was left out as crowds, and name every class that nothing is left of.

    Raises:
        DataError: nothing is left of any.
    """
    left_out = f"{crowds.total()} of {len(annotations)} annotations are crowds (iscrowd 1)"
    if annotations and not examples:
        others = "" if crowds.total() == len(annotations) else ", and none of the others can be used"
        raise DataError(f"{source}: no picture with annotations is left: {left_out}{others}")
    if crowds:
        logger.warning("%s: %s, which training leaves out", source, left_out)
    ids = (image_id_of(row.get("category_id")) for row in annotations)
    there = Counter(category_id for category_id in ids if category_id is not None)
    classes = enumerate(zip(categories.things, categories.thing_ids, strict=True))
    lacking = [
        f"{name} ({n} annotations, {crowds[category_id]} of them crowds)"
        if (n := there[category_id])
        else name
        for k, (name, category_id) in classes
        if not examples[k]
    ]
    if lacking:
        logger.warning(
            "%s: no example is left of %d of %d classes: %s",
            *(source, len(lacking), len(categories.things), ", ".join(lacking)),
        )


class _AnnotationReader:
    """Checks annotations and takes from them what training needs.

    Attributes:
        examples: how many were taken of each class.
    """

    def __init__(self, categories: Categories, masks: bool, problems: Problems) -> None:
        self.classes = {category_id: k for k, category_id in enumerate(categories.thing_ids)}
        self.masks = masks
        self.problems = problems
        self.examples: Counter[int] = Counter()

    def read(self, annotation: Row, size: SizeHW) -> tuple[list[float], int, Segmentation | None] | None:
        """Box, class and, where needed, segmentation; None where these cannot be used."""
        found = list(self._flaws(annotation, size))
        for problem in found:
            detail = f": {annotation['category_id']}" if problem is Problem.CATEGORY_UNKNOWN else ""
            self.problems.add(problem, _label(annotation) + detail)
        segmentation = annotation.get("segmentation") if self.masks else None
        if Problem.POLYGON_MALFORMED in found:
            polygons = segmentation if isinstance(segmentation, list) else []
            segmentation = [polygon for polygon in polygons if is_polygon(polygon)]
        usable = set(found) <= {Problem.BOX_BEYOND, Problem.POLYGON_MALFORMED}
        if not usable or (self.masks and not segmentation):
            return None
        k = self.classes[annotation["category_id"]]
        self.examples[k] += 1
        return annotation["bbox"], k, segmentation

    def _flaws(self, annotation: Row, size: SizeHW) -> Iterator[Problem]:
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
    pictures: dict[ImageId, _Picture],
    grouped: dict[ImageId, list[Row]],
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
