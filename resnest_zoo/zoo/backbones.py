"""ImageNet backbones that training starts from, as data. Different trainings are different entries.

Sources of names and digits: the page that links the detectors (the first three), detectron2's model zoo
(MSRA's), github.com/zhanghang1989/ResNeSt, resnest/torch/models/resnest.py (the authors'), timm,
models/resnest.py, and torchvision, models/resnet.py. A strict load cannot tell in which colours and with
which stride a backbone was trained, so entries say it.
"""

from __future__ import annotations

from collections.abc import Iterator

from resnest_zoo.hub import Artifact
from resnest_zoo.zoo.entry import Entry

_PAGE = "https://github.com/chongruo/detectron2-ResNeSt"
_BUCKET = "https://s3.us-west-1.wasabisys.com/resnest"
_LICENCE = "Apache-2.0 (of the repository that links the weights; none is stated for the weights themselves)"
_RESNESTS = (("resnest50", "255b5649"), ("resnest101", "486f69a8"), ("resnest200", "02644020"))

_MSRA_PAGE = "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md"
_MSRA_PATH = "ImageNetPretrained/MSRA"
_MSRA_URL = f"https://dl.fbaipublicfiles.com/detectron2/{_MSRA_PATH}"
_MSRA_LICENCE = "CC-BY-SA-3.0 (detectron2's model zoo, where the converted file is published)"
_MSRA = (("resnet50", "R-50"), ("resnet101", "R-101"))

_AUTHORS_PAGE = "https://github.com/zhanghang1989/ResNeSt"
# The same files, recognised by their digits, lie on each.
_AUTHORS_URLS = (
    f"{_AUTHORS_PAGE}/releases/download/weights_step1",
    "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-resnest",
    f"{_BUCKET}/torch",
)
_AUTHORS_LICENCE = "Apache-2.0 (of the authors' repository; none is stated for the weights themselves)"
_AUTHORS = (
    ("resnest50", "528c19ca"),
    ("resnest101", "22405ba7"),
    ("resnest200", "75117900"),
    ("resnest269", "0cc87c48"),
)
_AUTHORS_FULL = {  # SHA-256 and bytes, where they are known
    "resnest50": ("528c19ca6509420548c8359f63ff37975e7d92f42eaf72a7af152a015c8ef48c", 110_273_258),
}

_TIMM_LICENCE = "Apache-2.0 (stated by the repository that holds the weights)"
_TIMM = (
    ("resnest50", "resnest50d.in1k"),
    ("resnest101", "resnest101e.in1k"),
    ("resnest200", "resnest200e.in1k"),
    ("resnest269", "resnest269e.in1k"),
)

_TORCHVISION_PAGE = "https://docs.pytorch.org/vision/stable/models/resnet.html"
_TORCHVISION_URL = "https://download.pytorch.org/models"
_TORCHVISION_LICENCE = "BSD-3-Clause (of torchvision; none is stated for the weights themselves)"
_TORCHVISION = (("resnet50", "0676ba61"), ("resnet101", "63fe2227"))

# RGB in ImageNet's mean and standard deviation, and the stride in the 3x3 convolutions.
_IMAGENET = (
    ("INPUT.FORMAT", "RGB"),
    ("MODEL.PIXEL_MEAN", (123.675, 116.28, 103.53)),
    ("MODEL.PIXEL_STD", (58.395, 57.12, 57.375)),
    ("MODEL.RESNETS.STRIDE_IN_1X1", False),
)


def backbone_entries() -> Iterator[Entry]:
    """Those that the published detectors started from, then the authors', timm's and torchvision's."""
    for backbone, digits in _RESNESTS:
        stem = f"{backbone}_detectron-{digits}"
        artifact = Artifact(f"{stem}.pth", (f"{_BUCKET}/detectron/{stem}.pth",), sha256_prefix=digits)
        aliases = (f"{backbone}_detectron", stem)
        yield _entry(backbone, "imagenet", artifact, aliases, licence=_LICENCE, source=_PAGE)
    for backbone, stem in _MSRA:
        artifact = Artifact(f"{stem}.pkl", (f"{_MSRA_URL}/{stem}.pkl",))
        aliases = (f"{_MSRA_PATH}/{stem}", f"detectron2://{_MSRA_PATH}/{stem}")
        yield _entry(backbone, "msra", artifact, aliases, licence=_MSRA_LICENCE, source=_MSRA_PAGE)
    yield from _trained_on_imagenet()


def _trained_on_imagenet() -> Iterator[Entry]:
    """Those that say what the config must."""
    for backbone, digits in _AUTHORS:
        stem = f"{backbone}-{digits}"
        sha256, size = _AUTHORS_FULL.get(backbone, (None, None))
        urls = tuple(f"{url}/{stem}.pth" for url in _AUTHORS_URLS)
        artifact = Artifact(f"{stem}.pth", urls, sha256=sha256, sha256_prefix=digits, size=size)
        yield _entry(backbone, "authors", artifact, (stem,), _IMAGENET, _AUTHORS_LICENCE, _AUTHORS_PAGE)
    for backbone, theirs in _TIMM:
        artifact = Artifact(f"timm-{theirs}.safetensors", (f"hf://timm/{theirs}/model.safetensors",))
        aliases, page = (f"timm/{theirs}", theirs), f"https://huggingface.co/timm/{theirs}"
        yield _entry(backbone, "timm", artifact, aliases, _IMAGENET, _TIMM_LICENCE, page)
    for backbone, digits in _TORCHVISION:
        stem = f"{backbone}-{digits}"
        artifact = Artifact(f"{stem}.pth", (f"{_TORCHVISION_URL}/{stem}.pth",), sha256_prefix=digits)
        licence, page = _TORCHVISION_LICENCE, _TORCHVISION_PAGE
        yield _entry(backbone, "torchvision", artifact, (stem,), _IMAGENET, licence, page)


def _entry(
    backbone: str,
    trained_by: str,
    artifact: Artifact,
    aliases: tuple[str, ...],
    expects: tuple[tuple[str, object], ...] = (),
    licence: str = "",
    source: str = "",
) -> Entry:
    return Entry(
        name=f"{backbone}_{trained_by}",
        task="backbone",
        artifact=artifact,
        aliases=aliases,
        backbone=in_print(backbone),
        expects=expects,
        licence=licence,
        source=source,
    )


def in_print(variant: str) -> str:
    """ "resnest50_dcn" as papers write it: "ResNeSt-50-DCNv2"."""
    backbone, *options = variant.split("_")
    name = backbone.replace("resnest", "ResNeSt-").replace("resnet", "ResNet-")
    return f"{name}-DCNv2" if "dcn" in options else name
