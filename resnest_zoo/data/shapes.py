"""A small data set of drawn shapes with exact boxes, masks and segments, in COCO's layout.

    >>> from resnest_zoo.data import shapes
    >>> scene = shapes.draw(seed=0, index=0)
    >>> shapes.write("shapes", count=500, seed=1, split="val2017")

Six classes of things (circles, squares ...) lie over each other before four kinds of stuff (sky, grass ...).
The outline alone decides a thing's class: colour, pattern, angle, size and stretch are random. A picture
follows from its seed and index and is the same on every machine. How it is drawn is left to `shapes_drawing`.

Legend: N things of a picture, crowds included, H and W its height and width.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnest_zoo.categories import SHAPES_PANOPTIC
from resnest_zoo.data.shapes_drawing import STUFF, THINGS, Array, Drawing, compose
from resnest_zoo.errors import ConfigError, DataError, shown

CATEGORIES = SHAPES_PANOPTIC
SPLITS = {"train": (0, 4000), "val": (1, 500)}
"""Seed and number of pictures of the splits that the packaged models were trained and measured on."""

IGNORED = 255
"""Value of `Scene.semantic` at pixels of no segment."""

VERSION = "1"  # of the pictures: another drawing under the same seed is another version
_SIDES = 128, 192  # pixels, where no size is given
_SIDE_LIMITS = 64, 4096
_MIN_STUFF = 0.01  # of a picture: what is left of a smaller region belongs to no segment
_ID_STEP = 70_003  # between the ids in a PNG, so that all three of its channels carry digits
_COLOURS = (
    *((220, 20, 60), (0, 0, 230), (250, 170, 30), (255, 255, 0), (165, 42, 200), (0, 220, 176)),
    *((70, 130, 180), (107, 142, 35), (0, 80, 100), (140, 90, 70)),
)  # of the things and the stuff in panoptic files


@dataclass(frozen=True)
class Segment:
    """One thing, one crowd, or all visible pixels of one kind of stuff.

    Attributes:
        class_index: in `CATEGORIES.things` or `CATEGORIES.stuff`.
        is_thing: which of the two.
        is_crowd: a cluster of some twenty tiny shapes of one class.
        area: visible pixels.
        bbox: (x, y, width, height) of the visible pixels.
    """

    class_index: int
    is_thing: bool
    is_crowd: bool
    area: int
    bbox: tuple[int, int, int, int]

    @property
    def category_id(self) -> int:
        """As the annotation files write it."""
        return (CATEGORIES.thing_ids if self.is_thing else CATEGORIES.stuff_ids)[self.class_index]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and its truth.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        segment_map: (H, W) int32, k + 1 where `segments[k]` is visible, 0 where no segment is.
        segments: things in the order in which they were drawn, each above those before it; then stuff.
    """

    image: Array
    segment_map: Array
    segments: tuple[Segment, ...]

    @property
    def things(self) -> tuple[Segment, ...]:
        """The N things."""
        return tuple(segment for segment in self.segments if segment.is_thing)

    @property
    def masks(self) -> Array:
        """(N, H, W) bool, the visible pixels of each thing; no two overlap."""
        numbers = np.arange(1, len(self.things) + 1, dtype=np.int32)
        masks: Array = self.segment_map == numbers[:, None, None]
        return masks

    @property
    def semantic(self) -> Array:
        """(H, W) uint8, the index in `CATEGORIES.stuff`: 0 for every thing, `IGNORED` for no segment."""
        classes = [IGNORED, *(0 if s.is_thing else s.class_index for s in self.segments)]
        semantic: Array = np.array(classes, dtype=np.uint8)[self.segment_map]
        return semantic


def draw(
    seed: int, index: int, *, size: tuple[int, int] | None = None, crowd_fraction: float = 0.05
) -> Scene:
    """Draw picture `index` of the data set `seed`.

    A twentieth of the pictures has no thing, the others try to place up to eight. Of each at least a quarter
    is visible. Diameters run from 12 pixels to 0.75 of the shorter side, small ones being more frequent.

    Args:
        seed: of the data set, from 0.
        index: of the picture, from 0.
        size: (height, width), 64 to 4096 each; without, both are drawn from 128 to 192.
        crowd_fraction: of the pictures with things, the part that also has a crowd.

    Raises:
        ConfigError: an argument is out of its range.
    """
    _check_whole("seed", seed)
    _check_whole("index", index)
    _check_options(size, crowd_fraction)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    low, high = _SIDES
    height, width = size or (int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1)))
    return _read_off(compose(rng, height, width, crowd_fraction))


def write(
    folder: str | Path,
    *,
    count: int,
    seed: int,
    split: str,
    size: tuple[int, int] | None = None,
    crowd_fraction: float = 0.05,
) -> Path:
    """Write pictures 0 … count - 1 of `draw` as one split of a data set in COCO's layout.

        FOLDER/SPLIT/000000000001.png …
        FOLDER/annotations/instances_SPLIT.json
        FOLDER/annotations/panoptic_SPLIT.json
        FOLDER/annotations/panoptic_SPLIT/000000000001.png …

    The same arguments give the same bytes under one version of Pillow, and the same pixels under any. Masks
    are run-length encoded, those of crowds uncompressed as in COCO, and equal those of the panoptic files.
    All is written beside the folder and moved in when it is whole, `instances_SPLIT.json` last; an error or
    an interruption leaves nothing behind.

    Args:
        folder: of the data set; made if missing. It may hold other splits.
        count: of pictures.
        seed: give each split another; pictures of the same seed are the same pictures.
        split: such as "val2017".
        size: as in `draw`.
        crowd_fraction: as in `draw`.

    Returns:
        The folder.

    Raises:
        ConfigError: an argument is out of its range.
        DataError: the split exists, or the folder cannot be written.
    """
    folder = Path(folder)
    _check_whole("count", count, least=1)
    _check_whole("seed", seed)
    _check_options(size, crowd_fraction)
    if not re.fullmatch(r"\w[\w.-]*", split, re.ASCII) or split == "annotations":
        raise ConfigError(f"split: expected a name such as 'val2017', got {shown(split)}")
    _refuse_existing(folder, split)
    options = {"size": size, "crowd_fraction": crowd_fraction}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as staging:
            staged = Path(staging) / "whole"  # the folder around it is closed to others, and stays so
            _write_files(staged, split, count, seed, options)
            _refuse_existing(folder, split)  # it took a while
            _move(staged, folder, split)
    except OSError as error:
        raise DataError(f"{folder}: {split} cannot be written: {error.strerror or error}") from error
    return folder


def _check_whole(name: str, value: int, least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ConfigError(f"{name}: expected a whole number from {least}, got {shown(value)}")


def _check_options(size: tuple[int, int] | None, crowd_fraction: float) -> None:
    low, high = _SIDE_LIMITS
    sides = (low, low) if size is None else size if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and low <= side <= high for side in sides):
        raise ConfigError(f"size: expected (height, width) from {low} to {high} pixels, got {shown(size)}")
    if not isinstance(crowd_fraction, (int, float)) or not 0 <= crowd_fraction <= 1:
        raise ConfigError(f"crowd_fraction: expected a number from 0 to 1, got {shown(crowd_fraction)}")


def _read_off(drawing: Drawing) -> Scene:
    """Number what is visible: things first, then the kinds of stuff that are large enough."""
    segment_map = drawing.owner.astype(np.int32)
    segments = [
        _measure(segment_map == k + 1, kind, is_thing=True, is_crowd=crowd)
        for k, (kind, crowd) in enumerate(zip(drawing.kinds, drawing.crowds, strict=True))
    ]
    for kind in range(1, len(CATEGORIES.stuff)):
        mask = (drawing.ground == kind) & (drawing.owner == 0)
        if np.count_nonzero(mask) >= _MIN_STUFF * mask.size:
            segments.append(_measure(mask, kind, is_thing=False))
            segment_map[mask] = len(segments)
    return Scene(drawing.image, segment_map, tuple(segments))


def _measure(mask: Array, class_index: int, *, is_thing: bool, is_crowd: bool = False) -> Segment:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    bbox = (x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y)
    return Segment(class_index, is_thing, is_crowd, int(np.count_nonzero(mask)), bbox)


# Files


def _paths(split: str) -> tuple[str, ...]:
    """What a split consists of; the file by which it is found comes last."""
    annotations = f"panoptic_{split}", f"panoptic_{split}.json", f"instances_{split}.json"
    return (split, *(f"annotations/{name}" for name in annotations))


def _refuse_existing(folder: Path, split: str) -> None:
    existing = [str(folder / path) for path in _paths(split) if (folder / path).exists()]
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a folder or a new name, but this is a file")
    if existing:
        raise DataError(
            f"{folder}: the split {split!r} exists and is not overwritten: {', '.join(existing)}; "
            "remove it or choose another folder or split"
        )


def _write_files(folder: Path, split: str, count: int, seed: int, options: dict[str, Any]) -> None:
    pictures, maps, panoptic_file, instances_file = (folder / path for path in _paths(split))
    pictures.mkdir(parents=True)
    maps.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    for index in range(count):
        scene = draw(seed, index, **options)
        image_id = index + 1
        name = f"{image_id:012d}.png"
        Image.fromarray(scene.image).save(pictures / name)
        Image.fromarray(_encode_ids(scene.segment_map * _ID_STEP)).save(maps / name)
        height, width = scene.segment_map.shape
        images.append({"id": image_id, "file_name": name, "height": height, "width": width, "license": 1})
        for row in _instance_rows(scene):
            instances.append({"id": len(instances) + 1, "image_id": image_id, **row})
        panoptic.append({"image_id": image_id, "file_name": name, "segments_info": _segment_rows(scene)})
    head = {
        "info": {
            "description": "Shapes, drawn by resnest_zoo.data.shapes",
            "version": VERSION,
            "split": split,
            "seed": int(seed),
            **options,
        },
        "licenses": [
            {"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        ],
        "images": images,
    }
    _write_json(instances_file, {**head, "annotations": instances, "categories": _category_rows(False)})
    _write_json(panoptic_file, {**head, "annotations": panoptic, "categories": _category_rows(True)})


def _instance_rows(scene: Scene) -> Iterator[dict[str, Any]]:
    for segment, mask in zip(scene.things, scene.masks, strict=True):
        yield {
            "category_id": segment.category_id,
            "bbox": segment.bbox,
            "area": segment.area,
            "iscrowd": int(segment.is_crowd),
            "segmentation": _run_lengths(mask) if segment.is_crowd else _compressed(mask),
        }


def _segment_rows(scene: Scene) -> list[dict[str, Any]]:
    return [
        {
            "id": (k + 1) * _ID_STEP,
            "category_id": segment.category_id,
            "area": segment.area,
            "bbox": segment.bbox,
            "iscrowd": int(segment.is_crowd),
        }
        for k, segment in enumerate(scene.segments)
    ]


def _category_rows(panoptic: bool) -> list[dict[str, Any]]:
    things = zip(CATEGORIES.thing_ids, THINGS, ["shape"] * len(THINGS), strict=True)
    rows: list[dict[str, Any]] = [{"id": i, "name": n, "supercategory": s} for i, n, s in things]
    if not panoptic:
        return rows
    stuff = zip(CATEGORIES.stuff_ids[1:], STUFF, strict=True)
    rows += [{"id": i, "name": n, "supercategory": "ground"} for i, n in stuff]
    return [
        {**row, "isthing": int(k < len(THINGS)), "color": colour}
        for k, (row, colour) in enumerate(zip(rows, _COLOURS, strict=True))
    ]


def _encode_ids(ids: Array) -> Array:
    """(H, W, 3) uint8, R + 256 G + 65536 B."""
    return np.stack((ids % 256, ids // 256 % 256, ids // 65536), axis=2).astype(np.uint8)


def _run_lengths(mask: Array) -> dict[str, Any]:
    """Pixels in turn outside and inside, column by column from the left."""
    values = np.concatenate(([False], mask.ravel(order="F")))
    changes = np.flatnonzero(values[1:] != values[:-1])
    return {"size": mask.shape, "counts": np.diff(changes, prepend=0, append=mask.size).tolist()}


def _compressed(mask: Array) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": mask.shape, "counts": encoded["counts"].decode("ascii")}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8", newline="\n")


def _move(staged: Path, folder: Path, split: str) -> None:
    """Move a whole split into place; one that cannot be moved whole is taken out again."""
    if not folder.exists():
        staged.rename(folder)
        return
    (folder / "annotations").mkdir(exist_ok=True)
    try:
        for path in _paths(split):
            (staged / path).rename(folder / path)
    except BaseException:
        for path in _paths(split):
            if not (staged / path).exists():
                (folder / path).rename(staged / path)
        raise
