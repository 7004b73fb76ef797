"""COCO's instances files and result rows for detection, checked once and kept as columns of numbers.

Images and categories are named by their position among the ascending ids from here on, so an evaluator
never meets an id of the file: 0, a repeated annotation id or one beyond 2**53 cannot change a metric.

Legend: N images, K categories, A annotations, D detections.

Source: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnest_zoo.errors import ConfigError

Array = np.ndarray[Any, Any]
Rows = Sequence[Mapping[str, Any]]

_BOX = "4 finite numbers [x, y, width, height]"


@dataclass(frozen=True, eq=False)
class DetectionTruth:
    """Annotated boxes and masks of a data set; `load_truth` makes it from an instances file.

    Attributes:
        source: the file, for messages.
        image_ids: (N,) ascending, as in the file.
        sizes: (N, 2) height and width in pixels, 0 where the file has none.
        category_ids: (K,) ascending, as in the file.
        images: (A,) position in `image_ids`, in the order of the file.
        categories: (A,) position in `category_ids`.
        boxes: (A, 4) x, y, width, height in pixels.
        areas: (A,) pixels, as the file says: COCO's are those of the masks, for boxes too.
        crowd: (A,) bool, regions of many objects: neither to be found nor a mistake.
        masks: A polygons or run-length encodings as in the file, None where it has none.
    """

    source: str
    image_ids: Array
    sizes: Array
    category_ids: Array
    images: Array
    categories: Array
    boxes: Array
    areas: Array
    crowd: Array
    masks: list[Any]

    def positions(self, image_ids: Sequence[int]) -> Array:
        """Where these images stand in `image_ids`, ascending and without repetition.

        Raises:
            ConfigError: none are given, or the file lacks one.
        """
        where = "image_ids"
        ids = _whole_numbers(list(image_ids), "image id", where)
        if not len(ids):
            raise ConfigError(f"{where}: no images to evaluate; None stands for all of {self.source}")
        return np.unique(_positions(ids, self.image_ids, "image id", where, self.source))

    def at(self, positions: Array) -> DetectionTruth:
        """The same with only the images at these ascending positions, which count from 0 again."""
        kept, images = _renumbered(self.images, positions, len(self.image_ids))
        return replace(
            self,
            image_ids=self.image_ids[positions],
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
            ConfigError: an image lacks its size, or an annotation has no mask or not one of its image.
        """
        unsized = np.flatnonzero((self.sizes <= 0).any(axis=1))
        if len(unsized):
            ids = _some(self.image_ids[unsized])
            raise ConfigError(f"{self.source}: images without `height` and `width`, which masks need: {ids}")
        sizes = self.sizes.tolist()
        for mask, image in zip(self.masks, self.images.tolist(), strict=True):
            if not (_are_polygons(mask) if isinstance(mask, list) else _is_rle(mask, sizes[image], list)):
                raise ConfigError(
                    f"{self.source}: an annotation of image {self.image_ids[image]} has the `segmentation` "
                    f"{reprlib.repr(mask)}; expected polygons of at least 3 points or a run-length encoding "
                    f"of size {sizes[image]}"
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
    masks: list[dict[str, Any]] | None

    def at(self, positions: Array, num_images: int) -> DetectionRows:
        """The same with only the images at these ascending positions of `num_images`, as the truth's `at`."""
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

    Returns:
        Annotations in the file's order. `iscrowd` may be missing and is false then; annotation ids are not
        read, as no metric depends on them.

    Raises:
        ConfigError: the file is missing, no JSON, of another kind, or without annotations; it repeats an
            image or category id; an annotation lacks a field, or its image or category is not in the file.
    """
    source = str(path)
    data = _read_json(Path(path))
    keys = ("images", "categories", "annotations")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) and data[key] for key in keys):
        got = f"the keys {_some(list(data))}" if isinstance(data, dict) else f"a {type(data).__name__}"
        raise ConfigError(
            f"{source}: no ground truth of detection; expected an instances file with non-empty lists "
            f"`images`, `categories` and `annotations`, got {got}"
        )
    images, categories, annotations = (data[key] for key in keys)
    image_ids = _own_ids(images, "image", source)
    category_ids = _own_ids(categories, "category", source)
    where = f"{source}, annotations"
    at_image = _whole_numbers(_column(annotations, "image_id", where), "image_id", where)
    at_category = _whole_numbers(_column(annotations, "category_id", where), "category_id", where)
    by_id = np.argsort(image_ids)
    crowd = [annotation.get("iscrowd", 0) for annotation in annotations]
    return DetectionTruth(
        source=source,
        image_ids=image_ids[by_id],
        sizes=np.array([_size(image) for image in images])[by_id],
        category_ids=np.sort(category_ids),
        images=_positions(at_image, np.sort(image_ids), "image id", where, "its `images`"),
        categories=_positions(at_category, np.sort(category_ids), "category id", where, "its `categories`"),
        boxes=_finite(_column(annotations, "bbox", where), (4,), _BOX, where),
        areas=_finite(_column(annotations, "area", where), (), "`area`, a finite number of pixels", where),
        crowd=_flags(crowd, where),
        masks=[annotation.get("segmentation") for annotation in annotations],
    )


def read_rows(rows: Rows | str | Path, truth: DetectionTruth, masks: bool) -> DetectionRows:
    """Read result rows, given or in a JSON file; the rows themselves stay as they are.

    Args:
        rows: `image_id`, `category_id`, `score` and `bbox`, or for masks `segmentation` in place of it.
        truth: what the rows are results for; it has read `check_masks` where `masks`.
        masks: whether to read `segmentation` or `bbox`. The other is not looked at.

    Raises:
        ConfigError: the file is missing or no list of rows, a row lacks a field or holds something else in
            it, or rows name images or categories that `truth` does not have.
    """
    where = str(rows) if isinstance(rows, (str, Path)) else "result rows"
    items = _read_json(Path(rows)) if isinstance(rows, (str, Path)) else list(rows)
    if not isinstance(items, list):
        got = type(items).__name__
        raise ConfigError(f"{where}: expected a list of result rows, got a {got}; is it a ground truth?")
    image_ids = _whole_numbers(_column(items, "image_id", where), "image_id", where)
    category_ids = _whole_numbers(_column(items, "category_id", where), "category_id", where)
    images = _positions(image_ids, truth.image_ids, "image id", where, truth.source)
    found = _column(items, "segmentation" if masks else "bbox", where)
    if masks:
        _check_found_masks(found, images, truth, where)
    return DetectionRows(
        images=images,
        categories=_positions(category_ids, truth.category_ids, "category id", where, truth.source),
        scores=_finite(_column(items, "score", where), (), "`score`, a finite number", where),
        boxes=np.zeros((len(items), 4)) if masks else _finite(found, (4,), _BOX, where),
        masks=found if masks else None,
    )


def _check_found_masks(masks: list[Any], images: Array, truth: DetectionTruth, where: str) -> None:
    sizes = truth.sizes.tolist()
    for row, (mask, image) in enumerate(zip(masks, images.tolist(), strict=True)):
        if not _is_rle(mask, sizes[image], str):
            raise ConfigError(
                f"{where}: the `segmentation` of row {row} is {reprlib.repr(mask)}; expected a compressed "
                f"run-length encoding of size {sizes[image]}, that of image {truth.image_ids[image]}"
            )


def _is_rle(mask: Any, size: list[int], counts: type) -> bool:
    """Whether `mask` has this size and compressed counts, or counts of the other type named."""
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), (str, bytes, counts)):
        return False
    return isinstance(mask.get("size"), (list, tuple)) and list(mask["size"]) == size


def _are_polygons(mask: list[Any]) -> bool:
    # A first "polygon" of 4 numbers would be drawn as a box.
    try:
        points = [np.asarray(polygon, dtype=np.float64) for polygon in mask]
    except (TypeError, ValueError):
        return False
    fine = (xy.ndim == 1 and len(xy) >= 6 and len(xy) % 2 == 0 and np.isfinite(xy).all() for xy in points)
    return bool(points) and all(fine)


def _renumbered(images: Array, positions: Array, num_images: int) -> tuple[Array, Array]:
    """Which entries belong to the images at `positions`, and the place of each entry's image among these."""
    places = np.full(num_images, -1)
    places[positions] = np.arange(len(positions))
    kept = np.flatnonzero(places[images] >= 0)
    return kept, places[images[kept]]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # damaged JSON or text
        raise ConfigError(f"{path}: not a JSON file: {error}") from error


def _own_ids(items: list[Any], what: str, source: str) -> Array:
    where = f"{source}, {what} list"
    ids = _whole_numbers(_column(items, "id", where), "id", where)
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ConfigError(f"{where}: repeated ids {_some(values[counts > 1])}")
    return ids


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else (0, 0)


def _flags(values: list[Any], where: str) -> Array:
    _refuse_first(values, lambda value: value not in (0, 1), "`iscrowd`, 0 or 1", where)
    return np.array(values, dtype=bool)


def _column(items: Sequence[Any], key: str, where: str) -> list[Any]:
    try:
        return [item[key] for item in items]
    except (KeyError, TypeError, IndexError) as error:
        lacking = [not isinstance(item, Mapping) or key not in item for item in items]
        first = items[lacking.index(True)]
        got = f"the keys {_some(list(first))}" if isinstance(first, Mapping) else reprlib.repr(first)
        raise ConfigError(
            f"{where}: {sum(lacking)} of {len(items)} entries lack `{key}`, the first has {got}"
        ) from error


def _whole_numbers(values: list[Any], what: str, where: str) -> Array:
    array = _as_array(values, (), "iu")
    if array is None:
        _refuse_first(values, lambda value: _as_array([value], (), "iu") is None, f"`{what}`, a number", where)
        raise ConfigError(f"{where}: `{what}` beyond 64 bits")
    return array.astype(np.int64)


def _finite(values: list[Any], shape: tuple[int, ...], what: str, where: str) -> Array:
    def is_wrong(value: Any) -> bool:
        array = _as_array([value], shape, "iuf")
        return array is None or not np.isfinite(array).all()

    array = _as_array(values, shape, "iuf")
    if array is None or not np.isfinite(array).all():
        _refuse_first(values, is_wrong, what, where)
    assert array is not None
    return array.astype(np.float64)


def _as_array(values: list[Any], shape: tuple[int, ...], kinds: str) -> Array | None:
    """The values as an array (n, *shape) of one of numpy's kinds, or None."""
    if not values:
        return np.zeros((0, *shape), dtype=np.int64)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.dtype.kind in kinds and array.shape[1:] == shape else None


def _refuse_first(values: list[Any], is_wrong: Callable[[Any], bool], what: str, where: str) -> None:
    for index, value in enumerate(values):
        if is_wrong(value):
            raise ConfigError(f"{where}: entry {index} has {reprlib.repr(value)}; expected {what}")


def _positions(ids: Array, known: Array, what: str, where: str, source: str) -> Array:
    """Where each id stands in the ascending `known`."""
    places: Array = np.searchsorted(known, ids).clip(max=len(known) - 1)
    unknown = known[places] != ids
    if unknown.any():
        names = np.unique(ids[unknown])
        raise ConfigError(
            f"{where}: {int(unknown.sum())} of {len(ids)} entries name {len(names)} {what}s that {source} "
            f"does not have: {_some(names)}"
        )
    return places


def _some(values: Array | list[Any]) -> str:
    shown = [str(value) for value in values[:5]]
    return ", ".join(shown) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
