"""The two small detectors that come with the package: trained on drawn shapes, for trying things out offline.

Their recipe and numbers are in docs/shapes.md; `benchmarks.ship` made their files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from resnest_zoo.categories import SHAPES, SHAPES_PANOPTIC
from resnest_zoo.hub import Artifact
from resnest_zoo.zoo.entry import Entry, Reported

WEIGHTS = Path(__file__).parents[1] / "weights"

_MASK_SHA256 = "0f30fb6bd79d3e7f7ef275cee07a692f1a19c715a3130ec77914d70a9e046e42"
_PANOPTIC_SHA256 = "ffa14028f98f8d4eb9cd95d2ec096560a0ecbaa95d8c93ba703d6a9068e337a7"
_LICENCE = "Apache-2.0"
_BACKBONE = "ResNeSt-14-DCNv2"


def shipped_entries() -> Iterator[Entry]:
    """Mask R-CNN, and its twin with a semantic head."""
    yield Entry(
        name="mask_rcnn_resnest14_dcn_shapes",
        task="instance segmentation",
        artifact=_artifact(
            "mask_rcnn_resnest14_dcn_shapes",
            _MASK_SHA256,
            2_146_292,
        ),
        config="Shapes/mask_rcnn_ResNeSt_14_FPN_dcn.yaml",
        method="Mask R-CNN",
        backbone=_BACKBONE,
        parameters=1_052_474,
        categories=SHAPES,
        reported=(Reported("shapes", "val", False, box=66.94, mask=57.50),),
        licence=_LICENCE,
    )
    yield Entry(
        name="panoptic_resnest14_dcn_shapes",
        task="panoptic segmentation",
        artifact=_artifact(
            "panoptic_resnest14_dcn_shapes",
            _PANOPTIC_SHA256,
            2_593_334,
        ),
        config="Shapes/panoptic_ResNeSt_14_FPN_dcn.yaml",
        method="Panoptic FPN",
        backbone=_BACKBONE,
        parameters=1_274_879,
        categories=SHAPES_PANOPTIC,
        reported=(Reported("shapes", "val", False, box=66.94, mask=57.50, pq=80.99),),
        licence=_LICENCE,
    )


def _artifact(name: str, sha256: str, size: int) -> Artifact:
    file = f"{name}.safetensors"
    return Artifact(file, sha256=sha256, size=size, path=WEIGHTS / file)
