"""Small checkpoints in mmdetection's layout, by the names that stand beside the golden files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import golden_values
from resnest_zoo.categories import COCO
from resnest_zoo.config import load_config, resolve_path
from resnest_zoo.models import GeneralizedRCNN, build_model

GOLDEN = Path(__file__).parent / "golden" / "mmdet"

_SMALL = """\
_BASE_: {base}
MODEL:
  RESNETS: {{DEPTH: 14, WIDTH_PER_GROUP: 4, RES2_OUT_CHANNELS: 16}}
  FPN: {{OUT_CHANNELS: 16}}
  RPN: {{PRE_NMS_TOPK_TEST: 50, POST_NMS_TOPK_TEST: 50}}
  ROI_BOX_HEAD: {{CONV_DIM: 16, FC_DIM: 32}}
  ROI_MASK_HEAD: {{CONV_DIM: 16}}
INPUT: {{MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96}}
TEST: {{DETECTIONS_PER_IMAGE: 10}}
"""


@cache
def stored_keys(folder: Path = GOLDEN) -> dict[str, dict[str, tuple[list[int], str]]]:
    """{model: {mmdetection's key: (shape, our name)}}."""
    return json.loads(gzip.decompress((folder / "keys.json.gz").read_bytes()))


def small_config(base: str, folder: Path) -> Path:
    """A config like the packaged `base`, with a model small enough for every test."""
    file = folder / Path(base).name
    file.write_text(_SMALL.format(base=resolve_path(base)), encoding="utf-8")
    return file


def filled(config: Path) -> GeneralizedRCNN:
    """The model of a config with the weights that its names define."""
    model = build_model(load_config(config))
    golden_values.fill(model)
    return model


def their_names(model: GeneralizedRCNN, like: str = "mask_cascade_resnest50") -> dict[str, Tensor]:
    """The tensors of a model under the keys that mmdetection gives one `like` it."""
    theirs = {ours: key for key, (_, ours) in stored_keys()[like].items()}
    return {theirs[key]: value for key, value in model.state_dict().items()}


def write(path: Path, state: Mapping[str, Tensor], **meta: Any) -> None:
    """Write what mmdetection 2.x published: tensors under `state_dict`, beside `meta`."""
    described = {"mmdet_version": "2.4.0", "epoch": 12, "CLASSES": COCO.things, **meta}
    torch.save({"meta": described, "state_dict": dict(state)}, path)
