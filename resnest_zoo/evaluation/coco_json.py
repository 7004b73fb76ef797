"""COCO's instances files and result rows for detection, checked once and kept as columns of numbers.

From here on images and categories are named by their position among the sorted ids, so that an evaluator
never meets an id of the file: one that is 0, repeated, negative or a text cannot change a metric.

Legend: N images, K categories, A annotations, D detections.

Source: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnest_zoo.annotations.masks import first_unfit, is_polygon
from resnest_zoo.annotations.tables import (
    ImageId,
    Row,
    category_names,
    flag,
    image_id_of,
    kinds_of_ids,
    outline,
    picture_size,
    read_json,
    read_tables,
    report_strays,
)
from resnest_zoo.errors import DataError, shown, some

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
Rows = Sequence[Mapping[str, Any]]

TABLES = ("images", "categories", "annotations")
_AREA = "a finite number of pixels, 0 or more"
_BOX = "[x, y, width, height], 4 finite numbers"
# The area of a larger box is not finite, and its IoU no number.
_LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class DetectionTruth:
    """Annotated boxes and masks of a data set; `load_truth` makes it from an instances file.

    Attributes:
        source: the file, for messages.
        image_ids: N, numbers by rising value, then texts.
        sizes: (N, 2) height and width in pixels, 0 where the file has none.
        category_ids: K, by rising value.
        images: (A,) position in `image_ids`, in the order of the file.
        categories: (A,) position in `category_ids`.
        boxes: (A, 4) x, y, width, height in pixels, NaN where the file has none.
        areas: (A,) pixels, as the file says: COCO's are those of the masks, for boxes too.
        crowd: (A,) bool, regions of many objects: neither to be found nor a mistake.
        masks: A polygons or run-length encodings as in the file, None where it has none.
    """

    source: str
    image_ids: tuple[ImageId, ...]
    sizes: Array
    category_ids: tuple[int, ...]
    images: Array
    categories: Array
    boxes: Array
    areas: Array
    crowd: Array
    masks: list[Any]

    def positions(self, image_ids: Iterable[ImageId]) -> Array:
        """Where these images stand in `image_ids`, by rising position and without repetition.

        Raises:
            DataError: none are given, or the file lacks one.
        """
        places = _places(list(image_ids), self.image_ids, "an image", "image_ids", self.source)
        if not len(places):
            raise DataError(f"image_ids: no image to evaluate; None stands for all of {self.source}")
        return np.unique(places)

    def at(self, positions: Array) -> DetectionTruth:
        """The same with only the images at these rising positions, which count from 0 again."""
        kept, images = _renumbered(self.images, positions, len(self.image_ids))
        return replace(
            self._with_only(kept),
            image_ids=tuple(self.image_ids[position] for position in positions.tolist()),
            sizes=self.sizes[positions],
            images=images,
        )

    def check_objects(self) -> None:
        """Refuse a truth on which every figure would be None.

        Raises:
            DataError: all annotations are crowds.
        """
        if self.crowd.all():
            count = len(self.crowd)
            raise DataError(
                f"{self.source}: there is nothing to measure: {count} of {count} annotations are crowds "
                "(iscrowd 1)"
            )

    def of_categories(self, category_ids: Collection[int]) -> DetectionTruth:
        """The same with only the annotations of these categories."""
        positions = np.array([k for k, number in enumerate(self.category_ids) if number in category_ids])
        kept, categories = _renumbered(self.categories, positions.astype(np.int64), len(self.category_ids))
        return replace(
            self._with_only(kept),
            category_ids=tuple(self.category_ids[position] for position in positions.tolist()),
            categories=categories,
        )

    def _with_only(self, kept: Array) -> DetectionTruth:
        """The same with only the annotations at these places."""
        return replace(
            self,
            images=self.images[kept],
            categories=self.categories[kept],
            boxes=self.boxes[kept],
            areas=self.areas[kept],
            crowd=self.crowd[kept],
            masks=[self.masks[index] for index in kept.tolist()],
        )

    @property
    def has_boxes(self) -> bool:
        """Whether any annotation has a box."""
        return not np.isnan(self.boxes).all()

    def check_boxes(self) -> None:
        """Refuse what has no box.

        Raises:
            DataError: an annotation lacks it.
        """
        lacking = np.flatnonzero(np.isnan(self.boxes).any(axis=1))
        if len(lacking):
            first = self.image_ids[self.images[lacking[0]]]
            raise DataError(
                f"{self.source}, annotations: {len(lacking)} of {len(self.boxes)} entries lack 'bbox'; the "
                f"first is of image {first}. Box AP needs it, mask AP does not"
            )

    def check_masks(self) -> None:
        """Refuse what cannot be drawn as a mask.

        Raises:
            DataError: an image lacks its size, or an annotation has no mask or not one of its image.
        """
        unsized = np.flatnonzero(~self.sizes.all(axis=1))
        if len(unsized):
            ids = some([self.image_ids[position] for position in unsized.tolist()])
            raise DataError(
                f"{self.source}: masks need `height` and `width` of every image, not so for {ids}"
            )
        place = self._first_unfit_mask()
        if place is not None:
            image = self.images[place]
            raise DataError(
                f"{self.source}: an annotation of image {self.image_ids[image]} has the segmentation "
                f"{shown(self.masks[place])}; expected polygons of 3 points or more, or a run-length "
                f"encoding of size {self.sizes[image].tolist()} whose runs fill that. To measure "
                "boxes alone set MODEL.MASK_ON False"
            )

    def _first_unfit_mask(self) -> int | None:
        sizes = self.sizes.tolist()
        encoded: list[int] = []
        for place, mask in enumerate(self.masks):
            if not isinstance(mask, list):
                encoded.append(place)
            elif not mask or not all(map(is_polygon, mask)):
                return place
        of_encoded = [sizes[image] for image in self.images[encoded].tolist()]
        unfit = first_unfit([self.masks[place] for place in encoded], of_encoded)
        return None if unfit is None else encoded[unfit]


@dataclass(frozen=True, eq=False)
class DetectionRows:
    """Detections in COCO's result format, in the caller's order; `read_rows` makes it.

    Attributes:
        images: (D,) position in `DetectionTruth.image_ids`.
        categories: (D,) position in `DetectionTruth.category_ids`.
        scores: (D,), finite.
        boxes: (D, 4) x, y, width, height in pixels; zeros where masks are evaluated.
        masks: D compressed run-length encodings where masks are evaluated.
    """

    images: Array
    categories: Array
    scores: Array
    boxes: Array
    masks: list[Any] | None

    def at(self, positions: Array, num_images: int) -> DetectionRows:
        """The same with only the images at these rising positions of `num_images`, as the truth's `at`."""
        kept, images = _renumbered(self.images, positions, num_images)
        return DetectionRows(
            images,
            self.categories[kept],
            self.scores[kept],
            self.boxes[kept],
            None if self.masks is None else [self.masks[index] for index in kept.tolist()],
        )


def load_truth(path: str | Path) -> DetectionTruth:
    """Read an instances file such as `instances_val2017.json`.

    Annotations of images that the file does not list are left out, as pycocotools does, and logged; so are
    the number of crowds and the classes without an object. `iscrowd` may be missing and is false then.
    Annotation ids are not read, as no metric depends on them. `bbox` may be missing where masks alone are
    measured.

    Raises:
        DataError: the file is missing, no JSON, of another kind, or without annotations; it repeats an image
            or category id; an annotation lacks a field, or has a category that the file does not list; or all
            annotations are of images that it does not list.
    """
    return make_truth(read_tables(Path(path), *TABLES), str(path))


def make_truth(data: Row, source: str) -> DetectionTruth:
    """The same of what `read_tables` read of `TABLES`; `source` is the file, for messages."""
    empty = [name for name in TABLES if not data[name]]
    if empty:
        raise DataError(f"{source}: no ground truth of detection: its list of {' and '.join(empty)} is empty")
    images = _images_by_id(data["images"], f"{source}, images")
    image_ids = tuple(sorted(images, key=lambda name: (isinstance(name, str), name)))
    names = category_names(data["categories"], source)
    category_ids = tuple(names)
    where = f"{source}, annotations"
    at_images = _column(data["annotations"], "image_id", where)
    places = _look_up(at_images, image_ids)
    strays = [at_images[index] for index in np.flatnonzero(places < 0).tolist()]
    report_strays(source, strays, len(places), image_ids)
    rows = [data["annotations"][index] for index in np.flatnonzero(places >= 0).tolist()]
    at_categories = _column(rows, "category_id", where)
    truth = DetectionTruth(
        source=source,
        image_ids=image_ids,
        sizes=np.array([picture_size(images[name]) for name in image_ids]),
        category_ids=category_ids,
        images=places[places >= 0],
        categories=_places(at_categories, category_ids, "a category", where, source),
        boxes=_boxes(rows, where),
        areas=_areas(rows, where),
        crowd=_flags([row.get("iscrowd", 0) for row in rows], "iscrowd, which is 0, 1, true or false", where),
        masks=[row.get("segmentation") for row in rows],
    )
    _report_emptiness(truth, list(names.values()))
    return truth


def _boxes(rows: list[Row], where: str) -> Array:
    """(A, 4), NaN where there is none."""
    boxes = np.full((len(rows), 4), np.nan)
    boxed = [place for place, row in enumerate(rows) if "bbox" in row]
    if len(boxed) == len(rows):  # places in a message are those in the file
        return _numbers([row["bbox"] for row in rows], (4,), f"bbox {_BOX}", where)
    boxes[boxed] = _numbers([rows[place]["bbox"] for place in boxed], (4,), f"bbox {_BOX}", where)
    return boxes


def _areas(rows: list[Row], where: str) -> Array:
    advice = ". Metrics tell sizes apart by it: pixels of the mask, or width times height of the box"
    areas = _numbers(values := _column(rows, "area", where, advice), (), f"area, {_AREA}", where)
    if (areas < 0).any():  # which evaluators leave out without a word
        _refuse(values, (areas < 0).tolist(), f"area, {_AREA}", where)
    return areas


def _report_emptiness(truth: DetectionTruth, names: list[str]) -> None:
    crowds = int(truth.crowd.sum())
    if crowds:
        logger.warning(
            "%s: %d of %d annotations are crowds (iscrowd 1), which are neither to be found nor a mistake",
            *(truth.source, crowds, len(truth.crowd)),
        )
    objects = np.bincount(truth.categories[~truth.crowd], minlength=len(names)).tolist()
    lacking = [name for name, count in zip(names, objects, strict=True) if not count]
    if lacking:
        logger.warning(
            "%s: %d of %d classes have no object that counts, and no figure: %s",
            *(truth.source, len(lacking), len(names), ", ".join(lacking)),
        )


def read_rows(rows: Rows | str | Path, truth: DetectionTruth, *, masks: bool) -> DetectionRows:
    """Read result rows, given or in a JSON file; the rows themselves stay as they are.

    Args:
        rows: each with `image_id`, `category_id`, `score`, and `bbox` or for masks `segmentation`. What else
            they hold is not looked at.
        truth: what the rows are results for; `check_masks` has passed where `masks`.
        masks: whether to read `segmentation` in place of `bbox`.

    Raises:
        DataError: the file is missing or no list of rows; a row lacks a field or holds something else in it;
            or rows are of images or categories that `truth` does not have.
    """
    where = "result rows"
    if isinstance(rows, (str, Path)):
        where, rows = str(rows), read_json(Path(rows))
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise DataError(f"{where}: expected a list of result rows, got {outline(rows)}")
    items = list(rows)
    at_images, at_categories = _column(items, "image_id", where), _column(items, "category_id", where)
    images = _places(at_images, truth.image_ids, "an image", where, truth.source)
    found = _column(items, "segmentation" if masks else "bbox", where)
    if masks:
        _check_found_masks(found, images, truth, where)
    return DetectionRows(
        images=images,
        categories=_places(at_categories, truth.category_ids, "a category", where, truth.source),
        scores=_numbers(_column(items, "score", where), (), "score, a finite number", where),
        boxes=np.zeros((len(items), 4)) if masks else _numbers(found, (4,), f"bbox {_BOX}", where),
        masks=found if masks else None,
    )


def _check_found_masks(masks: list[Any], images: Array, truth: DetectionTruth, where: str) -> None:
    sizes = truth.sizes.tolist()
    index = first_unfit(masks, [sizes[image] for image in images.tolist()], compressed=True)
    if index is not None:
        image = images[index]
        raise DataError(
            f"{where}: entry {index} has the segmentation {shown(masks[index])}; expected a "
            f"compressed run-length encoding of size {sizes[image]}, that of image {truth.image_ids[image]}, "
            "whose runs fill that"
        )


def _renumbered(images: Array, positions: Array, num_images: int) -> tuple[Array, Array]:
    """Which entries belong to the images at `positions`, and where their images stand among these."""
    places = np.full(num_images, -1)
    places[positions] = np.arange(len(positions))
    kept = np.flatnonzero(places[images] >= 0)
    return kept, places[images[kept]]


def _images_by_id(rows: list[Row], where: str) -> dict[ImageId, Row]:
    ids = _column(rows, "id", where)
    wrong = [value for value in ids if image_id_of(value) is None]
    if wrong:
        raise DataError(f"{where}: expected whole numbers or texts as ids, got {some(wrong)}")
    found = dict(zip(ids, rows, strict=True))
    if len(found) < len(ids):
        raise DataError(f"{where}: {len(ids) - len(found)} ids are repeated")
    return found


def _column(items: Sequence[Any], key: str, where: str, advice: str = "") -> list[Any]:
    try:
        return [item[key] for item in items]
    except (KeyError, TypeError, IndexError) as error:
        lacking = [not isinstance(item, Mapping) or key not in item for item in items]
        first = items[lacking.index(True)]
        number = f"{sum(lacking)} of {len(items)}"
        raise DataError(
            f"{where}: {number} entries lack {key!r}; the first is {outline(first)}{advice}"
        ) from error


def _look_up(ids: list[Any], known: tuple[ImageId, ...]) -> Array:
    """Where each id stands in `known`, -1 where it does not."""
    place_of = {name: place for place, name in enumerate(known)}
    try:
        places = [place_of.get(name, -1) for name in ids]
    except TypeError:  # a list among the ids
        places = [place_of.get(name, -1) if isinstance(name, (int, str)) else -1 for name in ids]
    if bool in set(map(type, ids)):  # true is equal to 1, but no id
        places = [-1 if isinstance(name, bool) else place for name, place in zip(ids, places, strict=True)]
    return np.array(places, dtype=np.int64)


def _places(ids: list[Any], known: tuple[ImageId, ...], what: str, where: str, source: str) -> Array:
    places = _look_up(ids, known)
    unknown = np.flatnonzero(places < 0).tolist()
    if unknown:
        names = list(dict.fromkeys(shown(ids[index]) for index in unknown))
        reason = kinds_of_ids([ids[index] for index in unknown], known) or "are they of another data set?"
        raise DataError(
            f"{where}: {len(unknown)} of {len(ids)} entries are of {what} that {source} does not have: "
            f"{some(names)}; {reason}"
        )
    return places


def _numbers(values: list[Any], shape: tuple[int, ...], what: str, where: str) -> Array:
    """The values as float64 (n, *shape)."""

    def as_array(values: list[Any]) -> Array | None:
        if not values:
            return np.zeros((0, *shape))
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, OverflowError):
            return None
        if array.dtype.kind not in "iuf" or array.shape[1:] != shape:
            return None
        array = array.astype(np.float64)
        return array if (np.abs(array) < _LARGEST).all() else None  # which NaN is not

    array = as_array(values)
    if array is None:
        _refuse(values, [as_array([value]) is None for value in values], what, where)
    return np.asarray(array)


def _flags(values: list[Any], what: str, where: str) -> Array:
    flags = [flag(value) for value in values]
    if None in flags:
        _refuse(values, [found is None for found in flags], what, where)
    return np.array(flags, dtype=bool)


def _refuse(values: list[Any], wrong: list[bool], what: str, where: str) -> None:
    index = wrong.index(True) if True in wrong else 0  # else each fits alone, but not beside the others
    number = f" (wrong: {sum(wrong)} of {len(wrong)})" if any(wrong) else ""
    raise DataError(f"{where}: entry {index} has {shown(values[index])}; expected {what}{number}")
