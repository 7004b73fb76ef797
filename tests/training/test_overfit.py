"""Each architecture learns two drawn pictures by heart, from random weights.

docs/overfit.md does the same with two photographs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from resnest_zoo.data import shapes
from resnest_zoo.data.coco import read_dataset
from resnest_zoo.data.panoptic import PanopticFiles
from resnest_zoo.distributed import World
from resnest_zoo.models import build_model
from resnest_zoo.training.trainer import Options, train
from resnest_zoo.training.validation import read_validation_set
from tests.training.small_run import MASKS, PANOPTIC, small_config

SIZE = (96, 128)
# Seed 95 draws five shapes of five classes, the smallest 22 pixels wide, and of masks that 28 x 28 pixels can
# hold: cut out and pasted back, each overlaps itself by 0.94 or more. No crowds, which are not learnt.
SEED = 95
WIDE_ENOUGH = {
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_HEADS.NUM_CLASSES": len(shapes.CATEGORIES.things),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
}
RECIPE = {
    "INPUT.MIN_SIZE_TRAIN": (SIZE[0],),
    "INPUT.MIN_SIZE_TEST": SIZE[0],
    "INPUT.RANDOM_FLIP": "none",
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.BASE_LR": 0.05,
    "SOLVER.WARMUP_ITERS": 20,
    "SOLVER.MAX_ITER": 400,
    "TEST.PRECISE_BN.ENABLED": True,  # running means lag behind weights that move this fast
    "TEST.PRECISE_BN.NUM_ITER": 1,
}
RESNET = {"MODEL.RESNETS.RADIX": 1, "MODEL.RESNETS.STRIDE_IN_1X1": True}
DEFORMABLE = {
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": (False, False, True, True),
    "MODEL.RESNETS.DEFORM_MODULATED": True,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": 2,
}
CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}
WITH_MASKS = {
    **MASKS,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "INPUT.MASK_FORMAT": "bitmask",
}
WITH_STUFF = {**PANOPTIC, **WITH_MASKS, "MODEL.SEM_SEG_HEAD.NUM_CLASSES": len(shapes.CATEGORIES.stuff)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "most_loss"),
    [
        pytest.param(RESNET, 0.1, id="faster_rcnn_resnet"),
        pytest.param({**WITH_MASKS, **DEFORMABLE}, 0.2, id="mask_rcnn_resnest_dcn"),
        pytest.param({**CASCADE, **RESNET}, 0.6, id="cascade_rcnn_resnet"),
        pytest.param({**WITH_MASKS, **CASCADE, **DEFORMABLE}, 0.8, id="mask_cascade_resnest_dcn"),
        pytest.param({**WITH_STUFF, **CASCADE}, 0.8, id="panoptic_resnest"),
    ],
)
def test_two_pictures_are_learnt_by_heart(
    tmp_path: Path, architecture: dict[str, Any], most_loss: float
) -> None:
    """Boxes, masks, stuff, and a loss near zero.

    `most_loss` bounds the mean of all losses together over the last 50 iterations, below twice what was
    measured. It is larger for cascades: they add up three heads, of which the last counts a box's error with
    three times the weights of the first, by MODEL.ROI_BOX_CASCADE_HEAD.
    """
    config = small_config({**WIDE_ENOUGH, **RECIPE, **architecture})
    folder = shapes.write(tmp_path, count=2, seed=SEED, split="two", size=SIZE, crowd_fraction=0)
    files, images = folder / "annotations", folder / "two"
    panoptic = PanopticFiles(files / "panoptic_two.json", files / "panoptic_two")
    has_stuff = config.model.meta_architecture == "PanopticFPN"
    data = read_dataset(
        files / "instances_two.json",
        images,
        masks=config.model.mask_on,
        panoptic=panoptic if has_stuff else None,
    )
    torch.manual_seed(0)
    model = build_model(config, data.categories)
    validation = {"two": read_validation_set(files / "instances_two.json", images, model, panoptic)}
    outcome = train(model, data, validation, Options(tmp_path, log_period=50), World())

    measured = outcome.metrics
    assert measured is not None
    expected = {"bbox/AP"} | ({"segm/AP"} if config.model.mask_on else set())
    expected |= {"panoptic_seg/PQ"} if has_stuff else set()
    scores = {name: measured.get(name) or 0.0 for name in expected}
    assert min(scores.values()) > 90, scores
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, *_, last = (row for row in map(json.loads, lines) if "loss" in row)
    assert last["loss"] < most_loss < first["loss"] / 4, (first, last)
