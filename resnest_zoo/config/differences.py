"""How the keys of the schema differ from detectron2's, beside those of the ResNeSt fork."""

from __future__ import annotations

from typing import Any, Literal

# Fields that detectron2 lacks: what mmdetection computes otherwise. The default is detectron2's way.
OWN = frozenset(
    {
        "MODEL.BBOX_REG_CLAMP",
        "MODEL.ROI_BOX_CASCADE_HEAD.AVERAGE",
        "MODEL.ROI_MASK_HEAD.PER_STAGE",
    }
)

# Keys of detectron2 that have no effect on these detectors. A name stands for the key itself or for all keys
# of the section.
IGNORED = frozenset(
    {
        "CUDNN_BENCHMARK",
        "DATALOADER.REPEAT_SQRT",
        "DATALOADER.REPEAT_THRESHOLD",
        "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
        "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
        "DATASETS.PROPOSAL_FILES_TEST",
        "DATASETS.PROPOSAL_FILES_TRAIN",
        "FLOAT32_PRECISION",
        "GLOBAL",
        "MODEL.ANCHOR_GENERATOR.ANGLES",
        "MODEL.PANOPTIC_FPN.COMBINE.ENABLED",  # detectron2 itself no longer reads it
        "MODEL.RETINANET",
        "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER",
        "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES",
        "MODEL.ROI_KEYPOINT_HEAD",
        "SOLVER.NUM_DECAYS",
        "TEST.EXPECTED_RESULTS",
        "TEST.KEYPOINT_OKS_SIGMAS",
        "VIS_PERIOD",
    }
)

# Keys of detectron2 that would have an effect which this package does not build.
FIXED: dict[str, Any] = {
    "DATALOADER.SAMPLER_TRAIN": Literal["TrainingSampler"],
    "MODEL.ANCHOR_GENERATOR.NAME": Literal["DefaultAnchorGenerator"],
    "MODEL.FPN.FUSE_TYPE": Literal["sum"],
    "MODEL.KEYPOINT_ON": Literal[False],
    "MODEL.LOAD_PROPOSALS": Literal[False],
    "MODEL.PROPOSAL_GENERATOR.NAME": Literal["RPN"],
    "MODEL.RESNETS.RES5_DILATION": Literal[1],  # an FPN needs strides that double
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": Literal["smooth_l1"],
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": Literal["ROIAlignV2"],
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": Literal[False],
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": Literal[False],
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": Literal[False],
    "MODEL.ROI_MASK_HEAD.NAME": Literal["MaskRCNNConvUpsampleHead"],
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": Literal["ROIAlignV2"],
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": Literal["smooth_l1"],
    "MODEL.RPN.BOUNDARY_THRESH": Literal[-1],
    "MODEL.RPN.CONV_DIMS": tuple[Literal[-1]],
    "MODEL.RPN.HEAD_NAME": Literal["StandardRPNHead"],
    "MODEL.SEM_SEG_HEAD.NAME": Literal["SemSegFPNHead"],
    "SOLVER.RESCALE_INTERVAL": Literal[False],
    "VERSION": Literal[2],
}
