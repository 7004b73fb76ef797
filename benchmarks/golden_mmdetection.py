"""Golden files of mmdetection, and checkpoints in its layout whose weights are defined by their names.

A folder of such files holds `keys.json.gz`: for each model, every key of mmdetection's state dict, its shape,
and our name, whose `values` the goldens were computed from: {model: {key: [shape, name]}}. There, `NAME.npz`
is of the entry `NAME_mmdet`, or of one of `_CONFIGS`: models as people train them. Pictures are in RGB. The
stored numbers were computed by mmdetection 3.3.0 in float64 on the CPU, weights rounded to float32.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import resnest_zoo
from benchmarks.golden_values import values
from resnest_zoo.categories import COCO
from resnest_zoo.hub.staging import staged
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.registry import info

FOLDER = Path(__file__).parents[1] / "tests" / "golden" / "mmdet"
_KEYS = "keys.json.gz"
_SUFFIX = "_mmdet"
_CONFIGS = {
    "faster_rcnn_r50_pytorch": "faster-rcnn_r50_fpn_1x_coco",
    "mask_rcnn_r50_caffe": "mask-rcnn_r50-caffe_fpn_1x_coco",
    "cascade_rcnn_r101_pytorch": "cascade-rcnn_r50_fpn_1x_coco",  # the depth is that of the file
    "mask_cascade_r50_pytorch": "cascade-mask-rcnn_r50_fpn_1x_coco",
}


def is_theirs(path: Path) -> bool:
    """Whether a golden file is of mmdetection."""
    return path.with_name(_KEYS).is_file() or path.name.partition(".")[0].endswith(_SUFFIX)


def entry_name(path: Path) -> str:
    """The name of the entry that a golden file of mmdetection is of."""
    return f"{_stem(path)}{_SUFFIX}"


def _stem(path: Path) -> str:
    return path.name.partition(".")[0].removesuffix(_SUFFIX)


def load_model(path: Path, opts: Sequence[str]) -> GeneralizedRCNN:
    """The model of a golden file, from a checkpoint in mmdetection's layout, through `resnest_zoo.get`."""
    stem = _stem(path)
    keys = path.with_name(_KEYS)
    name = f"MMDetection/{_CONFIGS[stem]}.yaml" if stem in _CONFIGS else entry_name(path)
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{stem}.pth"
        write_checkpoint(file, stem, keys if keys.is_file() else FOLDER / _KEYS)
        return resnest_zoo.get(name, weights=file, overrides=["INPUT.MIN_SIZE_TEST", "0", *opts])


def write_checkpoint(path: Path, model: str, keys: Path = FOLDER / _KEYS) -> None:
    """Write a checkpoint as mmdetection 2.x published them.

    Args:
        path: the file.
        model: as `keys` names it: an entry without its ending, or one of `_CONFIGS`.
        keys: `keys.json.gz` of a folder of golden files.
    """
    rows: dict[str, tuple[list[int], str]] = json.loads(gzip.decompress(keys.read_bytes()))[model]
    state: dict[str, Any] = {}
    for key, (shape, name) in rows.items():
        counter = key.endswith("num_batches_tracked")
        state[key] = torch.tensor(0) if counter else torch.from_numpy(values(name, tuple(shape))).float()
    meta = {"mmdet_version": "2.4.0", "epoch": 12, "CLASSES": COCO.things}
    with staged(path) as part:  # a stream of pickles, as of 2020, no zip
        torch.save({"meta": meta, "state_dict": state}, part, _use_new_zipfile_serialization=False)


def write_published(name: str, folder: Path) -> Path:
    """Write the checkpoint of one of mmdetection's entries under its published file name; the path."""
    path = folder / info(name).artifact.filename
    write_checkpoint(path, name.removesuffix(_SUFFIX))
    return path
