"""Annotated pictures to measure a model on, checked with all that measuring will need before it starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from resnest_zoo.annotations.tables import ImageId, Row, image_id_of, read_segments, read_tables
from resnest_zoo.categories import Categories
from resnest_zoo.data.coco import categories_of
from resnest_zoo.data.file_names import FileNames
from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.data.sizes import check_sizes
from resnest_zoo.data.workers import count_workers
from resnest_zoo.distributed import World
from resnest_zoo.errors import DataError, ZooError, shown, some
from resnest_zoo.evaluation.classes import match_classes
from resnest_zoo.evaluation.coco_json import TABLES, DetectionTruth, make_truth
from resnest_zoo.evaluation.panoptic import read_segment_map
from resnest_zoo.evaluation.segments import SegmentMap, check_segments
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import SizeHW

logger = logging.getLogger(__name__)

Picture = tuple[ImageId, Path, SizeHW | None]

_SHOWN = 5
_WORTH_A_NOTE = 200  # panoptic maps, which take a few seconds to check


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Annotated pictures; `read_validation_set` makes it.

    Attributes:
        truth: boxes and masks of the classes that are scored.
        pictures: id, file and, where the annotations state it, height and width of each.
        categories: the model's classes, with the ids that they have in these annotations.
        scored: the ids of the classes that the annotations have.
        left_out: the ids of what they list and the model lacks.
        panoptic: the panoptic annotation of each picture by its id; None where the model has no such output.
        panoptic_folder: of their PNG files.
    """

    truth: DetectionTruth
    pictures: tuple[Picture, ...]
    categories: Categories
    scored: frozenset[int]
    left_out: frozenset[int] = frozenset()
    panoptic: dict[ImageId, Row] | None = None
    panoptic_folder: Path | None = None

    def read_segments(self, image_id: ImageId, size: SizeHW | None) -> SegmentMap:
        """A picture's panoptic truth; what is of a class that the model lacks is void.

        Raises:
            ImageError: its file or its annotation is wrong.
        """
        assert self.panoptic is not None
        assert self.panoptic_folder is not None
        row = self.panoptic[image_id]
        segments = SegmentMap.from_coco(read_segment_map(self.panoptic_folder / row["file_name"], size), row)
        return segments.without(self.left_out)


def read_validation_set(
    annotations: Path,
    images_dir: Path,
    model: GeneralizedRCNN,
    panoptic: PanopticFiles | None = None,
    world: World | None = None,
    *,
    by_name: bool = False,
) -> ValidationSet:
    """Read a validation set and check, before anything is trained, that `model` can be measured on it.

    Args:
        annotations: JSON in COCO's layout of instances.
        images_dir: folder of the pictures.
        model: with or without masks and panoptic output.
        panoptic: the panoptic annotations; without, only boxes and masks are measured. All their PNG files
            are read: 1,000 of COCO's size cost some 9 s of one processor, which all share.
        world: processes that all call this together, and share the work.
        by_name: take the model's classes by their names, whatever their ids.

    Raises:
        DataError: a file cannot be read or has another layout; pictures are missing or not of the size that
            the annotations state; there is no object that counts; categories are not the model's classes;
            masks are missing where the model has them; or panoptic annotations and their files do not fit
            together.
    """
    world = world or World()
    data = read_tables(annotations, *TABLES)
    truth = make_truth(data, str(annotations))
    truth.check_objects()
    if model.has_masks:
        truth.check_masks()
    if model.has_masks and not truth.has_boxes:
        logger.warning("%s: no annotation has a 'bbox': masks alone are measured", annotations)
    else:
        truth.check_boxes()
    segments = None
    if panoptic is not None and model.categories.stuff:
        segments = read_tables(panoptic.annotations, "annotations", "categories")
    found = categories_of(data, annotations, segments, panoptic)
    used = {truth.category_ids[place] for place in set(truth.categories.tolist())}
    sources = [str(annotations)]
    if panoptic is not None and segments is not None:
        used |= _used(segments["annotations"])
        sources.append(str(panoptic.annotations))
    match = match_classes(model.categories, found, used, " and ".join(sources), by_name=by_name)
    truth = truth.of_categories(match.scored)
    if not len(truth.boxes):
        raise DataError(f"{annotations}: none of its annotations is of a class of the model")
    pictures = _find_pictures(data["images"], annotations, images_dir, truth)
    _refuse(annotations, world.first(check_sizes([(p[1], p[2]) for p in pictures[world.rank :: world.size]])))
    if panoptic is None or segments is None:
        return ValidationSet(truth, pictures, match.categories, match.scored, match.left_out)
    by_id = _by_picture(segments["annotations"], pictures, panoptic.annotations)
    classes = match.categories, match.scored, match.left_out
    read = ValidationSet(truth, pictures, *classes, by_id, panoptic.folder)
    _refuse(panoptic.annotations, world.first(_check_maps(read, pictures[world.rank :: world.size])))
    return read


def _refuse(source: Path, problem: str | None) -> None:
    if problem:
        raise DataError(f"{source}: {problem}")


def _find_pictures(
    rows: Sequence[Row], annotations: Path, folder: Path, truth: DetectionTruth
) -> tuple[Picture, ...]:
    wrong = next((row for row in rows if not isinstance(row.get("file_name"), str)), None)
    if wrong is not None:
        raise DataError(f"{annotations}: expected a text as 'file_name', got {shown(wrong)}")
    sizes = dict(zip(truth.image_ids, truth.sizes.tolist(), strict=True))
    pictures = tuple(
        (row["id"], folder / row["file_name"], tuple(sizes[row["id"]]) if all(sizes[row["id"]]) else None)
        for row in rows
    )
    present = FileNames(folder)
    missing = [name for row in rows if (name := row["file_name"]) not in present]
    if missing:
        names = [f"{name}{present.hint(name)}" for name in missing[:_SHOWN]]
        count = f"{len(missing)} of {len(pictures)}"
        raise DataError(
            f"{annotations}: {count} pictures are missing in {folder}: {some(names)}"
            + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
        )
    return pictures


def _used(rows: Sequence[Row]) -> set[int]:
    """The categories of all segments; what is no segment is told later."""
    return {segment.category_id for row in rows for segment in read_segments(row) or ()}


def _by_picture(rows: Sequence[Row], pictures: Sequence[Picture], source: Path) -> dict[ImageId, Row]:
    by_id: dict[ImageId, Row] = {}
    for row in rows:
        image_id = image_id_of(row.get("image_id"))
        if image_id is None or not isinstance(row.get("file_name"), str) or image_id in by_id:
            raise DataError(
                f"{source}: expected annotations with an 'image_id' of their own and a text as 'file_name', "
                f"got {shown(row)}"
            )
        by_id[image_id] = row
    if lacking := [image_id for image_id, _, _ in pictures if image_id not in by_id]:
        raise DataError(f"{source}: lacks {len(lacking)} of {len(pictures)} pictures: {some(lacking, 10)}")
    return by_id


def _check_maps(data: ValidationSet, pictures: Sequence[Picture]) -> str | None:
    """What is wrong with the pictures' panoptic maps: how many, and the first five; None if nothing is."""
    started = perf_counter()
    if len(pictures) >= _WORTH_A_NOTE:
        logger.info("%s: %d panoptic files are checked", data.panoptic_folder, len(pictures))
    with ThreadPoolExecutor(count_workers(8)) as pool:
        problems = [text for text in pool.map(partial(_problem_of_map, data), pictures) if text]
    if len(pictures) >= _WORTH_A_NOTE:
        logger.info("%s: checked in %.0f s", data.panoptic_folder, perf_counter() - started)
    if not problems:
        return None
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return f"{len(problems)} of {len(pictures)} pictures: {'; '.join(problems[:_SHOWN])}{more}"


def _problem_of_map(data: ValidationSet, picture: Picture) -> str | None:
    image_id, _, size = picture
    try:
        check_segments(data.read_segments(image_id, size), data.categories)
    except ZooError as error:
        return str(error)
    return None
