"""The 21 ResNeSt and ResNet COCO detectors, and mmdetection's eight, in plain PyTorch.

    >>> import resnest_zoo
    >>> resnest_zoo.list_models("mask_*")
    >>> model = resnest_zoo.get("mask_cascade_resnest200_dcn_3x")
    >>> resnest_zoo.Predictor("faster_rcnn_resnest50")("photo.jpg").plot().save("found.jpg")

Importing this package and listing its models never loads torch; whatever needs it loads it on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from resnest_zoo.categories import Categories
from resnest_zoo.errors import ZooError
from resnest_zoo.hub import Artifact
from resnest_zoo.registry import Entry, Reported, info, list_models, load_zoo, register

if TYPE_CHECKING:
    from resnest_zoo.api import Predictor, fetch, get
    from resnest_zoo.checkpoint import load_checkpoint
    from resnest_zoo.config import load_config
    from resnest_zoo.inference import TTA
    from resnest_zoo.models import build_model

__version__ = "0.1.0"

__all__ = [
    "TTA",
    "Artifact",
    "Categories",
    "Entry",
    "Predictor",
    "Reported",
    "ZooError",
    "build_model",
    "fetch",
    "get",
    "info",
    "list_models",
    "load_checkpoint",
    "load_config",
    "load_zoo",
    "register",
]

_LAZY = {
    "Predictor": "resnest_zoo.api",
    "TTA": "resnest_zoo.inference",
    "build_model": "resnest_zoo.models",
    "fetch": "resnest_zoo.api",
    "get": "resnest_zoo.api",
    "load_checkpoint": "resnest_zoo.checkpoint",
    "load_config": "resnest_zoo.config",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
