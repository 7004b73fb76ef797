"""The published models as data: one row each, in the order of their page.

Source of numbers and addresses: https://github.com/chongruo/detectron2-ResNeSt. Of a SHA-256 at most the
first eight digits are published, in the file's name; two detectors lack even those.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from resnest_zoo.categories import COCO, COCO_PANOPTIC
from resnest_zoo.hub import Artifact
from resnest_zoo.zoo.backbones import in_print
from resnest_zoo.zoo.entry import Entry, Reported, Task

_PAGE = "https://github.com/chongruo/detectron2-ResNeSt"
_BUCKET = "https://s3.us-west-1.wasabisys.com/resnest/detectron"
_LICENCE = "Apache-2.0 (of the repository that links the weights; none is stated for the weights themselves)"


class _Model(NamedTuple):
    variant: str  # end of the name in the zoo
    stem: str  # end of the config's path
    digits: str | None  # first ones of the checkpoint's SHA-256
    parameters: int
    box: float  # AP on val2017 in percent, as are the next two
    mask: float | None = None
    pq: float | None = None


class _Method(NamedTuple):
    name: str  # beginning of the names in the zoo
    in_print: str
    task: Task
    path: str  # beginning of the configs' paths
    models: tuple[_Model, ...]


_METHODS = (
    _Method(
        "faster_rcnn",
        "Faster R-CNN",
        "object detection",
        "COCO-Detection/faster_rcnn_",
        (
            _Model("resnet50", "R_50_FPN_syncbn_range-scale_1x", "fde56e2b", 43_063_904, 39.25),
            _Model("resnet101", "R_101_FPN_syncbn_range-scale_1x", "57c73356", 62_056_032, 41.37),
            _Model("resnest50", "ResNeSt_50_FPN_syncbn_range-scale_1x", "ad123c0b", 44_989_408, 42.33),
            _Model("resnest50_dcn", "ResNeSt_50_FPN_dcn_syncbn_range-scale_1x", None, 45_861_022, 44.11),
            _Model("resnest101", "ResNeSt_101_FPN_syncbn_range-scale_1x", "d8f284b6", 65_780_928, 44.72),
        ),
    ),
    _Method(
        "cascade_rcnn",
        "Cascade R-CNN",
        "object detection",
        "COCO-Detection/faster_cascade_rcnn_",
        (
            _Model("resnet50", "R_50_FPN_syncbn_range-scale_1x", "3c7f2ef2", 73_329_102, 42.52),
            _Model("resnet101", "R_101_FPN_syncbn_range-scale_1x", "4073359b", 92_321_230, 44.03),
            _Model("resnest50", "ResNeSt_50_FPN_syncbn_range-scale-1x", "e9955232", 75_254_606, 45.41),
            _Model("resnest101", "ResNeSt_101_FPN_syncbn_range-scale_1x", "3627ef78", 96_046_126, 47.50),
            _Model("resnest200", "ResNeSt_200_FPN_syncbn_range-scale_1x", "1be2a87e", 117_972_654, 49.03),
        ),
    ),
    _Method(
        "mask_rcnn",
        "Mask R-CNN",
        "instance segmentation",
        "COCO-InstanceSegmentation/mask_rcnn_",
        (
            _Model("resnet50", "R_50_FPN_syncbn_1x", "4939bd58", 45_708_208, 39.97, 36.05),
            _Model("resnet101", "R_101_FPN_syncbn_1x", "55493cc2", 64_700_336, 41.78, 37.51),
            _Model("resnest50", "ResNeSt_50_FPN_syncBN_1x", "f442d863", 47_633_712, 42.81, 38.14),
            _Model("resnest101", "ResNeSt_101_FPN_syncBN_1x", "528502c6", 68_425_232, 45.75, 40.65),
        ),
    ),
    _Method(
        "mask_cascade",
        "Cascade Mask R-CNN",
        "instance segmentation",
        "COCO-InstanceSegmentation/mask_cascade_rcnn_",
        (
            _Model("resnet50", "R_50_FPN_syncbn_1x", "03310c9b", 75_973_406, 43.06, 37.19),
            _Model("resnet101", "R_101_FPN_syncbn_1x", "8cec1631", 94_965_534, 44.79, 38.52),
            _Model("resnest50", "ResNeSt_50_FPN_syncBN_1x", "c58bd325", 77_898_910, 46.19, 39.55),
            _Model("resnest101", "ResNeSt_101_FPN_syncBN_1x", "62448b9c", 98_690_430, 48.30, 41.56),
            _Model("resnest200_3x", "ResNeSt_200_FPN_syncBN_all_tricks_3x", None, 122_978_302, 50.54, 44.21),
            _Model(
                "resnest200_dcn_3x",
                "ResNeSt_200_FPN_dcn_syncBN_all_tricks_3x",
                "e1901134",
                126_340_936,
                50.91,
                44.50,
            ),
        ),
    ),
    _Method(
        "panoptic",
        "Panoptic FPN",
        "panoptic segmentation",
        "COCO-PanopticSegmentation/panoptic_",
        (
            _Model(
                "resnest200_3x",
                "ResNeSt_200_FPN_syncBN_tricks_3x",
                "43f8b731",
                122_244_916,
                51.00,
                43.68,
                47.90,
            ),
        ),
    ),
)

# Rows beside the one on val2017 without test-time augmentation.
_FURTHER_RESULTS = {
    "mask_cascade_resnest200_dcn_3x": (Reported("COCO", "test-dev2019", tta=True, box=53.30, mask=47.10),),
}


def published_entries() -> Iterator[Entry]:
    """The 21 detectors."""
    for method in _METHODS:
        for model in method.models:
            yield _detector(method, model)


def _detector(method: _Method, model: _Model) -> Entry:
    name = f"{method.name}_{model.variant}"
    path = method.path + model.stem
    stem = path.rpartition("/")[2]
    checkpoint = f"{stem}-{model.digits}" if model.digits else stem
    backbone = model.variant.split("_")[0]
    panoptic = method.task == "panoptic segmentation"
    # The page does not say whether the panoptic row used test-time augmentation; its config enables it.
    tta = None if panoptic else False
    val2017 = Reported("COCO", "val2017", tta, model.box, model.mask, model.pq)
    return Entry(
        name=name,
        task=method.task,
        artifact=Artifact(f"{checkpoint}.pth", (f"{_BUCKET}/{checkpoint}.pth",), sha256_prefix=model.digits),
        config=f"{path}.yaml",
        aliases=tuple(dict.fromkeys((stem, checkpoint, path))),
        method=method.in_print,
        backbone=in_print(model.variant),
        parameters=model.parameters,
        categories=COCO_PANOPTIC if panoptic else COCO,
        pretrained_from=f"{backbone}_{'imagenet' if backbone.startswith('resnest') else 'msra'}",
        reported=(val2017, *_FURTHER_RESULTS.get(name, ())),
        log_url=f"{_BUCKET}/{stem}.txt",
        licence=_LICENCE,
        source=_PAGE,
    )
