"""COCO's instances files and result rows for detection, checked once and kept as columns of numbers.

From here on images and categories are named by their position among the sorted ids, so that an evaluator
never meets an id of the file: one that is 0, repeated, negative or a text cannot change a metric.

Legend: N images, K categories, A annotations, D detections.

Source: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnest_zoo.errors import DataError, shown

Array = np.ndarray[Any, Any]
ImageId = int | str
Rows = Sequence[Mapping[str, Any]]

logger = logging.getLogger(__name__)

_TABLES = ("images", "categories", "annotations")
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
        boxes: (A, 4) x, y, width, height in pixels.
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
            self,
            image_ids=tuple(self.image_ids[position] for position in positions.tolist()),
            sizes=self.sizes[positions],
            images=images,
            categories=self.categories[kept],
            boxes=self.boxes[kept],
            areas=self.areas[kept],
            crowd=self.crowd[kept],
            masks=[self.masks[index] for index in kept.tolist()],
        )

    def check_masks(self) -> None:
        """Refuse what cannot be drawn as a mask.

        Raises:
            DataError: an image lacks its size, or an annotation has no mask or not one of its image.
        """
        unsized = np.flatnonzero(~self.sizes.all(axis=1))
        if len(unsized):
            ids = _some([self.image_ids[position] for position in unsized.tolist()])
            raise DataError(
                f"{self.source}: masks need `height` and `width` of every image, not so for {ids}"
            )
        sizes = self.sizes.tolist()
        for mask, image in zip(self.masks, self.images.tolist(), strict=True):
            if not (_are_polygons(mask) if isinstance(mask, list) else _is_rle(mask, sizes[image], list)):
                raise DataError(
                    f"{self.source}: an annotation of image {self.image_ids[image]} has the segmentation "
                    f"{shown(mask)}; expected polygons of 3 points or more, or a run-length encoding "
                    f"of size {sizes[image]}. Boxes can be evaluated without masks"
                )


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

    Annotations of images that the file does not list are left out, as pycocotools does, and logged. `iscrowd`
    may be missing and is false then. Annotation ids are not read, as no metric depends on them.

    Raises:
        DataError: the file is missing, no JSON, of another kind, or without annotations; it repeats an image
            or category id; or an annotation lacks a field, or has a category that the file does not list.
    """
    source = str(path)
    data = _read_json(Path(path))
    if not isinstance(data, dict) or not all(
        isinstance(data.get(key), list) and data[key] for key in _TABLES
    ):
        raise DataError(
            f"{source}: no ground truth of detection; expected an instances file, with `images`, "
            f"`categories` and `annotations` that are not empty, got {_outline(data)}"
        )
    images = _by_id(data["images"], (int, str), f"{source}, images")
    image_ids = tuple(sorted(images, key=lambda name: (isinstance(name, str), name)))
    category_ids = tuple(sorted(_by_id(data["categories"], (int,), f"{source}, categories")))
    where = f"{source}, annotations"
    places = _look_up(_column(data["annotations"], "image_id", where), image_ids)
    rows = [data["annotations"][index] for index in np.flatnonzero(places >= 0).tolist()]
    if len(rows) < len(places):
        logger.warning("%s: %d are of no image of the file and left out", where, len(places) - len(rows))
    at_categories = _column(rows, "category_id", where)
    return DetectionTruth(
        source=source,
        image_ids=image_ids,
        sizes=np.array([_size(images[name]) for name in image_ids]),
        category_ids=category_ids,
        images=places[places >= 0],
        categories=_places(at_categories, category_ids, "a category", where, source),
        boxes=_numbers(_column(rows, "bbox", where), (4,), f"bbox {_BOX}", where),
        areas=_numbers(_column(rows, "area", where), (), "area, a finite number of pixels", where),
        crowd=_numbers([row.get("iscrowd", 0) for row in rows], (), "iscrowd, 0 or 1", where, flags=True),
        masks=[row.get("segmentation") for row in rows],
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
        where, rows = str(rows), _read_json(Path(rows))
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise DataError(f"{where}: expected a list of result rows, got {_outline(rows)}")
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
    for index, (mask, image) in enumerate(zip(masks, images.tolist(), strict=True)):
        if not _is_rle(mask, sizes[image], str):
            raise DataError(
                f"{where}: entry {index} has the segmentation {shown(mask)}; expected a compressed "
                f"run-length encoding of size {sizes[image]}, that of image {truth.image_ids[image]}"
            )


def _is_rle(mask: Any, size: list[int], counts: type) -> bool:
    """Whether `mask` is of that size and has compressed counts, or counts of the other type named."""
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), (str, bytes, counts)):
        return False
    return isinstance(mask.get("size"), (list, tuple)) and list(mask["size"]) == size


def _are_polygons(mask: list[Any]) -> bool:
    # pycocotools would draw 4 numbers as a box, and fewer or none not at all.
    try:
        polygons = [np.asarray(polygon, dtype=np.float64) for polygon in mask]
    except (TypeError, ValueError):
        return False
    fine = (xy.ndim == 1 and len(xy) >= 6 and len(xy) % 2 == 0 and np.isfinite(xy).all() for xy in polygons)
    return bool(polygons) and all(fine)


def _renumbered(images: Array, positions: Array, num_images: int) -> tuple[Array, Array]:
    """Which entries belong to the images at `positions`, and where their images stand among these."""
    places = np.full(num_images, -1)
    places[positions] = np.arange(len(positions))
    kept = np.flatnonzero(places[images] >= 0)
    return kept, places[images[kept]]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from error


def _by_id(items: list[Any], types: tuple[type, ...], where: str) -> dict[Any, Any]:
    ids = _column(items, "id", where)
    wrong = [value for value in ids if type(value) not in types]
    if wrong:
        raise DataError(f"{where}: expected whole numbers as ids, got {_some(wrong)}")
    found = dict(zip(ids, items, strict=True))
    if len(found) < len(ids):
        raise DataError(f"{where}: {len(ids) - len(found)} ids are repeated")
    return found


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    height, width = image.get("height"), image.get("width")
    # Some tools write 480.0.
    whole = all(isinstance(side, (int, float)) and side >= 1 and side % 1 == 0 for side in (height, width))
    return (int(height or 0), int(width or 0)) if whole else (0, 0)


def _column(items: Sequence[Any], key: str, where: str) -> list[Any]:
    try:
        return [item[key] for item in items]
    except (KeyError, TypeError, IndexError) as error:
        lacking = [not isinstance(item, Mapping) or key not in item for item in items]
        first = items[lacking.index(True)]
        raise DataError(
            f"{where}: {sum(lacking)} of {len(items)} entries lack {key!r}; the first is {_outline(first)}"
        ) from error


def _look_up(ids: list[Any], known: tuple[ImageId, ...]) -> Array:
    """Where each id stands in `known`, -1 where it does not."""
    place_of = {name: place for place, name in enumerate(known)}
    try:
        places = [place_of.get(name, -1) for name in ids]
    except TypeError:  # a list among the ids
        places = [place_of.get(name, -1) if isinstance(name, (int, str)) else -1 for name in ids]
    return np.array(places, dtype=np.int64)


def _places(ids: list[Any], known: tuple[ImageId, ...], what: str, where: str, source: str) -> Array:
    places = _look_up(ids, known)
    unknown = np.flatnonzero(places < 0).tolist()
    if unknown:
        names = list(dict.fromkeys(shown(ids[index]) for index in unknown))
        raise DataError(
            f"{where}: {len(unknown)} of {len(ids)} entries are of {what} that {source} does not have: "
            f"{_some(names)}; are they of another data set?"
        )
    return places


def _numbers(values: list[Any], shape: tuple[int, ...], what: str, where: str, flags: bool = False) -> Array:
    """The values as float64 (n, *shape), or bool (n,) for flags."""

    def as_array(values: list[Any]) -> Array | None:
        if not values:
            return np.zeros((0, *shape))
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, OverflowError):
            return None
        if array.dtype.kind not in "iufb" or array.shape[1:] != shape:
            return None
        array = array.astype(np.float64)
        fine = np.isin(array, (0, 1)) if flags else np.abs(array) < _LARGEST  # which NaN is not
        return array if fine.all() else None

    array = as_array(values)
    if array is None:
        _refuse_first(values, lambda value: as_array([value]) is None, what, where)
    return np.asarray(array, dtype=bool if flags else np.float64)


def _refuse_first(values: list[Any], is_wrong: Callable[[Any], bool], what: str, where: str) -> None:
    index = next((index for index, value in enumerate(values) if is_wrong(value)), 0)
    raise DataError(f"{where}: entry {index} has {shown(values[index])}; expected {what}")


def _outline(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"an object with {_some(list(value)) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, list) else shown(value)


def _some(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
