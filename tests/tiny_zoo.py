"""Four detectors small enough for every test: 150,000 parameters, a picture in 20 ms on one core.

One of each kind: `detection` (deformable, boxes of each class), `mask`, `cascade` (boxes shared by all
classes) and `panoptic`. Their weights are defined by their names, see `benchmarks.golden`, and find ten
things in any photo. Each file has the published layout, its digits in its name, a fully known SHA-256 and
no address: only a mirror can have it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fill import write_checkpoint
from resnest_zoo import registry
from resnest_zoo.categories import COCO, COCO_PANOPTIC
from resnest_zoo.config.loading import resolve_path
from resnest_zoo.hub import Artifact
from resnest_zoo.registry import Entry, Reported, Task, register

_BASE = """\
_BASE_: {base}
MODEL:
  MASK_ON: {masks}
  RESNETS:
    DEPTH: 14
    WIDTH_PER_GROUP: 4
    RES2_OUT_CHANNELS: 16
    DEFORM_ON_PER_STAGE: [False, {dcn}, {dcn}, {dcn}]
    DEFORM_MODULATED: {dcn}
    DEFORM_NUM_GROUPS: 2
  FPN: {{OUT_CHANNELS: 16}}
  RPN: {{PRE_NMS_TOPK_TEST: 50, POST_NMS_TOPK_TEST: 50}}
  ROI_BOX_HEAD: {{NUM_CONV: 1, CONV_DIM: 16, FC_DIM: 32, CLS_AGNOSTIC_BBOX_REG: {agnostic}}}
  ROI_MASK_HEAD: {{NUM_CONV: 1, CONV_DIM: 16}}
{more}INPUT: {{MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96}}
TEST:
  DETECTIONS_PER_IMAGE: 10
  AUG: {{MIN_SIZES: [48, 64], MAX_SIZE: 96}}
"""
_CASCADE = "  ROI_HEADS: {NAME: CascadeROIHeads}\n"
_PANOPTIC = f"""{_CASCADE}\
  META_ARCHITECTURE: PanopticFPN
  SEM_SEG_HEAD: {{CONVS_DIM: 16, NORM: SyncBN}}
  PANOPTIC_FPN: {{COMBINE: {{INSTANCES_CONFIDENCE_THRESH: 0.1, OVERLAP_THRESH: 0.9}}}}
"""
_TASKS: dict[str, Task] = {
    "detection": "object detection",
    "mask": "instance segmentation",
    "cascade": "instance segmentation",
    "panoptic": "panoptic segmentation",
}
_PARAMETERS = {"detection": 138_690, "mask": 129_640, "cascade": 179_734, "panoptic": 196_780}
_MORE = {"detection": "", "mask": "", "cascade": _CASCADE, "panoptic": _PANOPTIC}


def write_tiny(kind: str, folder: Path) -> Entry:
    """Write config and checkpoint of the tiny model `tiny_KIND` and return its entry, not registered."""
    config = folder / f"{kind}.yaml"
    text = _BASE.format(
        base=resolve_path("Base-ResNeSt-FPN.yaml"),
        masks=kind != "detection",
        dcn=kind == "detection",
        agnostic=kind in ("cascade", "panoptic"),
        more=_MORE[kind],
    )
    config.write_text(text, encoding="utf-8")
    entry = Entry(
        f"tiny_{kind}",
        _TASKS[kind],
        Artifact(f"tiny_{kind}.pth"),
        config=str(config),
        method="Faster R-CNN",
        backbone="ResNeSt-14",
        parameters=_PARAMETERS[kind],
        categories=COCO_PANOPTIC if kind == "panoptic" else COCO,
        reported=(Reported("COCO", "val2017", False, 1.5),),
    )
    with pytest.MonkeyPatch.context() as patch:
        isolate_registry(patch)
        register(entry)
        file = write_checkpoint(entry.name, folder)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    file = file.rename(folder / f"tiny_{kind}-{digest[:8]}.pth")
    return replace(entry, artifact=Artifact(file.name, sha256=digest, size=file.stat().st_size))


def isolate_registry(patch: pytest.MonkeyPatch) -> None:
    """Let entries be registered until `patch` is undone."""
    patch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    patch.setattr(registry, "_NAMES", dict(registry._NAMES))
    patch.setattr(registry, "_READ_FILES", set(registry._READ_FILES))
