"""Data sets as `verify` needs them: which pictures, where the truth is, and what is missing.

COCO's usual layout:

    DIR/annotations/instances_val2017.json
    DIR/val2017/000000000139.jpg …
    DIR/annotations/panoptic_val2017.json           for panoptic models
    DIR/annotations/panoptic_val2017/*.png          or DIR/panoptic_val2017/
    DIR/annotations/image_info_test-dev2017.json    for --submission
    DIR/test2017/*.jpg

The shapes that the packaged models were trained on are drawn where they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from resnest_zoo.annotations.tables import category_names, picture_size, read_tables, whole_number
from resnest_zoo.data import shapes
from resnest_zoo.errors import DataError, ZooError, shown, some
from resnest_zoo.hub import locked
from resnest_zoo.structures import SizeHW

_HOST = "http://images.cocodataset.org"
_SOURCES = {
    "val2017": f"{_HOST}/zips/val2017.zip",
    "instances": f"{_HOST}/annotations/annotations_trainval2017.zip",
    "panoptic": f"{_HOST}/annotations/panoptic_annotations_trainval2017.zip (panoptic_val2017.zip in it)",
    "test2017": f"{_HOST}/zips/test2017.zip",
    "test-dev": f"{_HOST}/annotations/image_info_test2017.zip",
}
# What the metrics of COCO's papers are computed with; the published configs say the same.
COCO_SIZES = {"INPUT.MIN_SIZE_TEST": 800, "INPUT.MAX_SIZE_TEST": 1333}
_VAL2017 = (5000, 36781)  # pictures and annotations


class DataMissingError(ZooError, FileNotFoundError):
    """A data set is not there, or not whole. The message says what is missing and where to get it."""


@dataclass(frozen=True)
class Picture:
    """One picture of a data set."""

    id: int
    path: Path
    size: SizeHW


@dataclass(frozen=True)
class DataSet:
    """Pictures with ground truth.

    Attributes:
        name: "COCO".
        split: "val2017".
        pictures: by id.
        digest: SHA-256 of the annotation files: what the numbers depend on.
        instances: the JSON of boxes and masks; None where nobody has the truth.
        panoptic: the JSON of segments; None where there is none.
        panoptic_maps: the folder of its PNG files.
        annotations: their number in `instances`.
        sizes: keys of the config that the evaluation decides: how large pictures enter the model.
        category_ids: of the things in `instances`.
        categories: id and name of each category in both files.
        deviation: why numbers on it are not those on the published data set; "" if they are.
    """

    name: str
    split: str
    pictures: tuple[Picture, ...]
    digest: str
    instances: Path | None
    panoptic: Path | None = None
    panoptic_maps: Path | None = None
    annotations: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    category_ids: frozenset[int] = frozenset()
    categories: frozenset[tuple[int, str]] = frozenset()
    deviation: str = ""


def find_coco(root: Path | None, *, panoptic: bool, split: str = "val2017") -> DataSet:
    """COCO val2017 under `root`.

    Args:
        root: the folder of `--coco`.
        panoptic: the panoptic truth is needed too.
        split: another split of the same layout.

    Raises:
        DataMissingError: something is missing; every missing piece is named.
    """
    if root is None:
        raise DataMissingError(
            f"COCO {split} is needed: pass --coco DIR, a folder with annotations/ and {split}/\n"
            f"from {_SOURCES['val2017']}\nand {_SOURCES['instances']}"
            + (f"\nand {_SOURCES['panoptic']}" if panoptic else "")
        )
    instances = root / "annotations" / f"instances_{split}.json"
    segments = root / "annotations" / f"panoptic_{split}.json"
    maps = next(
        (f for f in (root / "annotations" / f"panoptic_{split}", root / f"panoptic_{split}") if f.is_dir()),
        root / "annotations" / f"panoptic_{split}",
    )
    needed = [(instances, "instances"), (root / split, "val2017")]
    needed += [(segments, "panoptic"), (maps, "panoptic")] if panoptic else []
    _refuse_missing(needed)
    data = _read_layout("COCO", split, root / split, instances, (segments, maps) if panoptic else None)
    counts = (len(data.pictures), data.annotations)
    deviation = ""
    if split == "val2017" and counts != _VAL2017:
        deviation = (
            f"these are {counts[0]:,} pictures with {counts[1]:,} annotations, "
            f"COCO val2017 has {_VAL2017[0]:,} with {_VAL2017[1]:,}"
        )
    return replace(data, sizes=COCO_SIZES, deviation=deviation)


def find_shapes(folder: Path, split: str) -> DataSet:
    """A split of the drawn data set, which is written to `folder` where it is not yet.

    Raises:
        DataMissingError: there is no such split.
        DataError: the folder cannot be written.
    """
    if split not in shapes.SPLITS:
        raise DataMissingError(f"shapes has the splits {', '.join(shapes.SPLITS)}, not {shown(split)}")
    seed, count = shapes.SPLITS[split]
    root = folder / f"shapes-{shapes.VERSION}"
    instances = root / "annotations" / f"instances_{split}.json"
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder / "shapes"):  # the first process draws, the others wait
        if not instances.exists():
            shapes.write(root, count=count, seed=seed, split=split)
    panoptic = (root / "annotations" / f"panoptic_{split}.json", root / "annotations" / f"panoptic_{split}")
    return _read_layout("shapes", split, root / split, instances, panoptic)


def _read_layout(
    name: str, split: str, folder: Path, instances: Path, panoptic: tuple[Path, Path] | None
) -> DataSet:
    """Read what a data set consists of; its panoptic part is a JSON file and the folder of its maps."""
    content = _read_json(instances, "annotations", "categories")
    pictures = _pictures(content, instances, folder)
    categories = _categories(content, instances)
    segments, maps = panoptic or (None, None)
    if segments is not None and maps is not None:
        content_of_segments = _read_json(segments, "annotations", "categories")
        _check_segments(content_of_segments, segments, maps, pictures)
        categories |= _categories(content_of_segments, segments)
    return DataSet(
        name,
        split,
        pictures,
        _digest([file for file in (instances, segments) if file is not None]),
        instances,
        segments,
        maps,
        annotations=len(content["annotations"]),
        category_ids=frozenset(k for k, _ in _categories(content, instances)),
        categories=categories,
    )


def _categories(content: dict[str, Any], source: Path) -> frozenset[tuple[int, str]]:
    try:
        return frozenset(category_names(content["categories"], source).items())
    except DataError as error:
        raise DataMissingError(str(error)) from error


def find_test_dev(root: Path | None) -> DataSet:
    """COCO test-dev: pictures whose truth only the test server has.

    Raises:
        DataMissingError: something is missing; every missing piece is named.
    """
    if root is None:
        raise DataMissingError(
            "COCO test-dev is needed: pass --coco DIR, a folder with annotations/ and test2017/\n"
            f"from {_SOURCES['test2017']}\nand {_SOURCES['test-dev']}"
        )
    images = root / "annotations" / "image_info_test-dev2017.json"
    _refuse_missing([(images, "test-dev"), (root / "test2017", "test2017")])
    pictures = _pictures(_read_json(images), images, root / "test2017")
    return DataSet("COCO", "test-dev2017", pictures, _digest([images]), None, sizes=COCO_SIZES)


def _refuse_missing(needed: list[tuple[Path, str]]) -> None:
    missing = [f"{path}: from {_SOURCES[source]}" for path, source in needed if not path.exists()]
    if missing:
        raise DataMissingError("\n".join(["the data set is not whole; missing:", *missing]))


def _read_json(path: Path, *lists: str) -> dict[str, Any]:
    """A file in COCO's format, which has `images` and these lists."""
    try:
        return read_tables(path, "images", *lists)
    except DataError as error:
        raise DataMissingError(str(error)) from error


def _pictures(content: dict[str, Any], source: Path, folder: Path) -> tuple[Picture, ...]:
    pictures = []
    for row in content["images"]:
        number, name, size = whole_number(row.get("id")), row.get("file_name"), picture_size(row)
        if number is None or not isinstance(name, str) or not all(size):
            raise DataMissingError(
                f"{source}: a row of `images` lacks a whole number as `id`, a text as `file_name`, or "
                f"`height` and `width`: {shown(row)}"
            )
        pictures.append(Picture(number, folder / name, size))
    if not pictures:
        raise DataMissingError(f"{source}: lists no images")
    _refuse_absent(folder, [picture.path for picture in pictures], "pictures")
    return tuple(sorted(pictures, key=lambda picture: picture.id))


def _check_segments(content: dict[str, Any], source: Path, maps: Path, pictures: tuple[Picture, ...]) -> None:
    """Every picture has its segments: one that lacks them would be left out of PQ."""
    rows = content["annotations"]
    ids = {whole_number(row.get("image_id")) for row in rows}
    absent = [picture.path.name for picture in pictures if picture.id not in ids]
    if absent:
        raise DataMissingError(
            f"{source}: {len(absent):,} of {len(pictures):,} pictures have no segments, such as "
            f"{', '.join(absent[:3])}; from {_SOURCES['panoptic']}"
        )
    unnamed = next((row for row in rows if not isinstance(row.get("file_name"), str)), None)
    if unnamed is not None:
        raise DataMissingError(f"{source}: expected a text as 'file_name', got {shown(unnamed)}")
    _refuse_absent(maps, [maps / row["file_name"] for row in rows], "segment maps")


def _refuse_absent(folder: Path, files: list[Path], what: str) -> None:
    absent = [file.name for file in files if not file.exists()]
    if absent:
        raise DataMissingError(
            f"{folder}: {len(absent):,} of {len(files):,} {what} are missing, such as {some(absent[:3])}"
        )


def _digest(files: list[Path]) -> str:
    digest = sha256()
    for file in files:
        digest.update(sha256(file.read_bytes()).digest())
    return digest.hexdigest()
