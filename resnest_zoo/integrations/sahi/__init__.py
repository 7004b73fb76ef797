"""The zoo's detectors in SAHI, which cuts large pictures into slices so that small objects are found.

    >>> from sahi.predict import get_sliced_prediction
    >>> from resnest_zoo.integrations.sahi import ResNeStDetectionModel
    >>> model = ResNeStDetectionModel("mask_rcnn_resnest50", confidence_threshold=0.5)
    >>> get_sliced_prediction("large.jpg", model, slice_height=800, slice_width=800)

The class is in `detection`, a subclass of SAHI's own; SAHI is looked for when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resnest_zoo.extras import load_extra

__all__ = ["ResNeStDetectionModel"]


def __getattr__(name: str) -> Any:
    """`ResNeStDetectionModel`, imported with SAHI.

    Raises:
        ZooError: SAHI is not installed.
    """
    if name != "ResNeStDetectionModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load_extra("sahi", "sahi")
    return import_module("resnest_zoo.integrations.sahi.detection").ResNeStDetectionModel
