"""Detectors small enough to run in milliseconds, with weights that find something."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import golden
from resnest_zoo.config import load_config
from resnest_zoo.models import GeneralizedRCNN, build_model

_SMALL = {
    "INPUT.MIN_SIZE_TEST": "64",
    "INPUT.MAX_SIZE_TEST": "96",
    "MODEL.RESNETS.DEPTH": "14",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "16",
    "MODEL.FPN.OUT_CHANNELS": "8",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "60",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "40",
    "MODEL.ROI_HEADS.NUM_CLASSES": "5",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.3",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "8",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": "1",
    "TEST.DETECTIONS_PER_IMAGE": "20",
}
FASTER: tuple[str, ...] = ()
MASK = ("MODEL.MASK_ON", "True")
RESNEST = (
    *("MODEL.RESNETS.RADIX", "2", "MODEL.RESNETS.STRIDE_IN_1X1", "False"),
    *("INPUT.FORMAT", "RGB", "MODEL.PIXEL_STD", "(58.393, 57.12, 57.375)"),
)
CASCADE = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True")
MMDETECTION = (  # a cascade's, with masks
    *("MODEL.BBOX_REG_CLAMP", "both", "MODEL.ROI_BOX_CASCADE_HEAD.AVERAGE", "logits"),
    *("MODEL.ROI_MASK_HEAD.PER_STAGE", "True"),
)
PANOPTIC = (
    *("MODEL.META_ARCHITECTURE", "PanopticFPN", *MASK),
    *("MODEL.SEM_SEG_HEAD.NORM", "", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "7"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "8", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", "20"),
)
# The golden weights suit wider networks; here their class scores would all round to 1 and tie.
_CALM = 0.05
NOTHING_FOUND = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0")


def tiny_model(*overrides: str) -> GeneralizedRCNN:
    """A detector in float64 on `Base-RCNN-FPN.yaml`, so that equal means equal beyond rounding."""
    small = [word for item in _SMALL.items() for word in item]
    model = build_model(load_config("Base-RCNN-FPN.yaml", [*small, *overrides])).double()
    golden.fill(model)
    for name, parameter in model.named_parameters():
        if "cls_score" in name:
            parameter.data *= _CALM
    return model


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """A uint8 RGB picture (3, height, width) of noise in coarse blocks."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (3, -(-height // 8), -(-width // 8)), generator=generator)
    pixels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width]
    noise = torch.randint(-20, 21, (3, height, width), generator=generator)
    return (pixels + noise).clamp(0, 255).to(torch.uint8)
