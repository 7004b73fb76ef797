"""The 21 ResNeSt and ResNet COCO detectors, and mmdetection's eight, in plain PyTorch.

    >>> import resnest_zoo
    >>> resnest_zoo.list_models("mask_*")
    >>> model = resnest_zoo.get("mask_cascade_resnest200_dcn_3x")
    >>> resnest_zoo.Predictor("faster_rcnn_resnest50")("photo.jpg").plot().save("found.jpg")

Importing this package loads nothing, and listing its models no torch: whatever is needed comes on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnest_zoo.api import Predictor, fetch, get
    from resnest_zoo.categories import Categories
    from resnest_zoo.checkpoint import load_checkpoint
    from resnest_zoo.config import load_config
    from resnest_zoo.data.video import Video
    from resnest_zoo.errors import ZooError
    from resnest_zoo.exporting import export
    from resnest_zoo.hub import Artifact
    from resnest_zoo.inference import TTA
    from resnest_zoo.inference.film import VideoWriter
    from resnest_zoo.integrations.model_card import ModelCard
    from resnest_zoo.integrations.pretrained import from_pretrained, save_pretrained
    from resnest_zoo.integrations.pushing import push_to_hub
    from resnest_zoo.integrations.results import Measured
    from resnest_zoo.models import build_model
    from resnest_zoo.optimization import optimize
    from resnest_zoo.registry import Entry, Reported, info, list_models, load_zoo, register

__version__ = "0.1.0"

__all__ = [
    "TTA",
    "Artifact",
    "Categories",
    "Entry",
    "Measured",
    "ModelCard",
    "Predictor",
    "Reported",
    "Video",
    "VideoWriter",
    "ZooError",
    "build_model",
    "export",
    "fetch",
    "from_pretrained",
    "get",
    "info",
    "list_models",
    "load_checkpoint",
    "load_config",
    "load_zoo",
    "optimize",
    "push_to_hub",
    "register",
    "save_pretrained",
]

_LAZY = {
    "Artifact": "resnest_zoo.hub",
    "Categories": "resnest_zoo.categories",
    "Entry": "resnest_zoo.registry",
    "Measured": "resnest_zoo.integrations.results",
    "ModelCard": "resnest_zoo.integrations.model_card",
    "Predictor": "resnest_zoo.api",
    "Reported": "resnest_zoo.registry",
    "TTA": "resnest_zoo.inference",
    "Video": "resnest_zoo.data.video",
    "VideoWriter": "resnest_zoo.inference.film",
    "ZooError": "resnest_zoo.errors",
    "build_model": "resnest_zoo.models",
    "export": "resnest_zoo.exporting",
    "fetch": "resnest_zoo.api",
    "from_pretrained": "resnest_zoo.integrations.pretrained",
    "get": "resnest_zoo.api",
    "info": "resnest_zoo.registry",
    "list_models": "resnest_zoo.registry",
    "load_checkpoint": "resnest_zoo.checkpoint",
    "load_config": "resnest_zoo.config",
    "optimize": "resnest_zoo.optimization",
    "load_zoo": "resnest_zoo.registry",
    "push_to_hub": "resnest_zoo.integrations.pushing",
    "register": "resnest_zoo.registry",
    "save_pretrained": "resnest_zoo.integrations.pretrained",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
