"""Data sets by detectron2's names, in detectron2's folders.

    $DETECTRON2_DATASETS/                 ./datasets by default
      coco/
        annotations/instances_train2017.json, panoptic_train2017.json, …
        train2017/, val2017/              pictures
        panoptic_train2017/, …            PNG files of segment ids, here or in annotations/

Source: detectron2, datasets/README.md and data/datasets/builtin.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.errors import ConfigError, DataError

# Name of a set: end of its annotations' names, and folder of its pictures.
_SETS = {
    "coco_2014_train": ("train2014", "train2014"),
    "coco_2014_val": ("val2014", "val2014"),
    "coco_2014_minival": ("minival2014", "val2014"),
    "coco_2014_valminusminival": ("valminusminival2014", "val2014"),
    "coco_2017_train": ("train2017", "train2017"),
    "coco_2017_val": ("val2017", "val2017"),
    "coco_2017_val_100": ("val2017_100", "val2017"),
}
_SEPARATED = "_panoptic_separated"


@dataclass(frozen=True)
class SetFiles:
    """Where a data set is.

    Attributes:
        name: for messages.
        annotations: JSON of instances.
        images: folder of the pictures.
        panoptic: panoptic annotations, where they are needed.
    """

    name: str
    annotations: Path
    images: Path
    panoptic: PanopticFiles | None = None

    def missing(self) -> list[Path]:
        """What of it is not there."""
        paths = [self.annotations, self.images]
        if self.panoptic is not None:
            paths += [self.panoptic.annotations, self.panoptic.folder]
        return [path for path in paths if not path.exists()]


def find_sets(names: Sequence[str], panoptic: bool) -> list[SetFiles]:
    """The files of data sets.

    Args:
        names: such as "coco_2017_train" or "coco_2017_val_panoptic_separated".
        panoptic: whether panoptic annotations are needed.

    Raises:
        ConfigError: no such name, or one without panoptic annotations where they are needed.
    """
    root = Path(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))) / "coco"
    return [_files(name, root, panoptic) for name in names]


def require_files(sets: Sequence[SetFiles]) -> None:
    """Do nothing when everything is there.

    Raises:
        DataError: files are missing; every one of them is named.
    """
    missing = [f"{files.name}: {path}" for files in sets for path in files.missing()]
    if missing:
        raise DataError(
            "data sets are not where they should be; set DETECTRON2_DATASETS to the folder that holds coco/, "
            "or name your own files. Missing:\n  " + "\n  ".join(missing)
        )


def _files(name: str, root: Path, panoptic: bool) -> SetFiles:
    plain = name.removesuffix(_SEPARATED)
    if plain not in _SETS or (plain != name and "2017" not in name):
        known = ", ".join([*_SETS, *(f"{plain}{_SEPARATED}" for plain in _SETS if "2017" in plain)])
        raise ConfigError(f"{name}: no data set of that name; there are {known}")
    if panoptic and plain == name:
        raise ConfigError(f"{name}: this model needs panoptic annotations, as {name}{_SEPARATED} has")
    split, folder = _SETS[plain]
    notes = root / "annotations"
    segments = None
    if panoptic:
        inside = notes / f"panoptic_{split}"  # where COCO's own archive puts them
        outside = root / f"panoptic_{split}"
        pngs = inside if inside.is_dir() and not outside.is_dir() else outside
        segments = PanopticFiles(notes / f"panoptic_{split}.json", pngs)
    return SetFiles(name, notes / f"instances_{split}.json", root / folder, segments)
