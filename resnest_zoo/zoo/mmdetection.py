"""mmdetection's eight ResNeSt detectors as data: other trainings of eight of the 21, on another host.

Source of numbers and addresses: https://github.com/open-mmlab/mmdetection/tree/main/configs/resnest. Of a
SHA-256 the first eight digits are published, in the file's name. Addresses write "+" as "%2B".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from resnest_zoo.categories import COCO
from resnest_zoo.hub import Artifact
from resnest_zoo.zoo.entry import Entry, Reported, Task

_PAGE = "https://github.com/open-mmlab/mmdetection/tree/main/configs/resnest"
_HOST = "https://download.openmmlab.com/mmdetection/v2.0/resnest"
_LICENCE = "Apache-2.0 (of the repository that links the weights; none is stated for the weights themselves)"


class _Model(NamedTuple):
    depth: int  # of the ResNeSt
    date: str  # of the training, in the file names
    digits: str  # first ones of the checkpoint's SHA-256
    parameters: int
    box: float  # AP on val2017 in percent, as is the next
    mask: float | None = None


class _Method(NamedTuple):
    name: str  # beginning of the names in the zoo
    in_print: str
    task: Task
    theirs: str  # beginning of mmdetection's names
    scales: tuple[str, str]  # how pictures were resized in training, in the names of files and of configs
    models: tuple[_Model, ...]


_RANGE, _CHOICE = ("mstrain-range_1x", "ms-range-1x"), ("mstrain_1x", "ms-1x")
_METHODS = (
    _Method(
        "faster_rcnn",
        "Faster R-CNN",
        "object detection",
        "faster-rcnn",
        _RANGE,
        (
            _Model(50, "20200926_125502", "20289c16", 44_987_360, 42.0),
            _Model(101, "20201006_021058", "421517f1", 65_778_880, 44.5),
        ),
    ),
    _Method(
        "cascade_rcnn",
        "Cascade R-CNN",
        "object detection",
        "cascade-rcnn",
        _RANGE,
        (
            _Model(50, "20201122_213640", "763cc7b5", 75_252_558, 44.5),
            _Model(101, "20201005_113242", "b9459f8f", 96_044_078, 46.8),
        ),
    ),
    _Method(
        "mask_rcnn",
        "Mask R-CNN",
        "instance segmentation",
        "mask-rcnn",
        _CHOICE,
        (
            _Model(50, "20200926_125503", "8a2c3d47", 47_631_664, 42.6, 38.1),
            _Model(101, "20201005_215831", "af60cdf9", 68_423_184, 45.2, 40.2),
        ),
    ),
    _Method(
        "mask_cascade",
        "Cascade Mask R-CNN",
        "instance segmentation",
        "cascade-mask-rcnn",
        _CHOICE,
        (
            _Model(50, "20201122_104428", "99eca4c7", 83_185_470, 45.4, 39.5),
            _Model(101, "20201005_113243", "42607475", 103_976_990, 47.7, 41.4),
        ),
    ),
)


def mmdetection_entries() -> Iterator[Entry]:
    """The eight, in the order of the methods of the 21."""
    for method in _METHODS:
        for model in method.models:
            yield _detector(method, model)


def _detector(method: _Method, model: _Model) -> Entry:
    of_files, of_configs = method.scales
    norms = f"s{model.depth}_fpn_syncbn-backbone+head"
    stem = f"{method.theirs.replace('-', '_')}_{norms}_{of_files}_coco"
    checkpoint = f"{stem}_{model.date}-{model.digits}"
    config = f"MMDetection/{method.theirs}_{norms}_{of_configs}_coco"
    folder = f"{_HOST}/{stem}".replace("+", "%2B")
    return Entry(
        name=f"{method.name}_resnest{model.depth}_mmdet",
        task=method.task,
        artifact=Artifact(
            f"{checkpoint}.pth",
            (f"{folder}/{checkpoint.replace('+', '%2B')}.pth",),
            sha256_prefix=model.digits,
        ),
        config=f"{config}.yaml",
        aliases=(config.rpartition("/")[2], stem, checkpoint, config),
        method=method.in_print,
        backbone=f"ResNeSt-{model.depth}",
        parameters=model.parameters,
        categories=COCO,
        reported=(Reported("COCO", "val2017", False, model.box, model.mask, decimals=1),),
        log_url=f"{folder}/{stem.replace('+', '%2B')}-{model.date}.log.json",
        licence=_LICENCE,
        source=_PAGE,
    )
