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

_MASK_SHA256 = "ed71596a346fe9033253fa44b15b031d2a1860889fe24b98a759d3877ec11a00"
_PANOPTIC_SHA256 = "086f9e797218ce7914084356dce0ca18a839be3e3513bf1bfbee5e22ead41b81"
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
        reported=(Reported("shapes", "val", False, box=64.18, mask=54.58),),
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
        reported=(Reported("shapes", "val", False, box=64.18, mask=54.58, pq=79.27),),
        licence=_LICENCE,
    )


def _artifact(name: str, sha256: str, size: int) -> Artifact:
    file = f"{name}.safetensors"
    return Artifact(file, sha256=sha256, size=size, path=WEIGHTS / file)
