"""The keys of a config: names, types, ranges and defaults.

Each dataclass is one section of the YAML and each field one key in lower case. The annotation is the
whole rule for a value: `Literal` lists what is allowed, `Annotated` adds a range. Defaults are
detectron2's, because the YAML files of its users leave out what they do not change; `RADIX`,
`DEEP_STEM`, `AVD`, `AVG_DOWN` and `BOTTLENECK_WIDTH` come from the ResNeSt fork.

`differences` lists the keys of detectron2 without a field, and the fields that detectron2 lacks. What must
hold between keys is in `checks`.

Source: detectron2, config/defaults.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml

from resnest_zoo.config import checks, keys
from resnest_zoo.config.differences import FIXED, IGNORED, OWN
from resnest_zoo.config.keys import Bounds

PositiveInt = Annotated[int, Bounds(1, 2**31 - 1)]
NonNegative = Annotated[int, Bounds(0, 2**31 - 1)]
Channels = Annotated[int, Bounds(1, 2**16)]  # no tensor of a model passes 64 bits by these
Layers = Annotated[int, Bounds(0, 100)]
Resolution = Annotated[int, Bounds(1, 2**10)]
Fraction = Annotated[float, Bounds(0, 1)]
Weight = Annotated[float, Bounds(0)]
PositiveFloat = Annotated[float, Bounds(1e-6)]  # a divisor or a size: never zero
Weights4 = tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]  # of the deltas (dx, dy, dw, dh)
Names = tuple[str, ...]
Norm = Literal["", "BN", "SyncBN", "FrozenBN", "GN"]


@dataclass(frozen=True)
class Backbone:
    """MODEL.BACKBONE."""

    name: Literal["build_resnet_backbone", "build_resnet_fpn_backbone"] = "build_resnet_backbone"
    freeze_at: Annotated[int, Bounds(0, 5)] = 2  # stages frozen: 1 the stem, 2 also res2, ...


@dataclass(frozen=True)
class ResNets:
    """MODEL.RESNETS, for ResNet (RADIX 1) and ResNeSt (RADIX 2).

    RADIX above 1 switches DEEP_STEM, AVD and AVG_DOWN on, here and nowhere else. They stay on when a
    loaded ResNeSt is overridden to RADIX 1: switch them off in the same override.
    """

    depth: Literal[14, 50, 101, 152, 200, 269] = 50
    out_features: Names = ("res4",)
    num_groups: Channels = 1
    norm: Norm = "FrozenBN"
    width_per_group: Channels = 64
    stride_in_1x1: bool = True
    res2_out_channels: Channels = 256
    stem_out_channels: Channels = 64
    deform_on_per_stage: tuple[bool, bool, bool, bool] = (False, False, False, False)  # res2 ... res5
    deform_modulated: bool = False
    deform_num_groups: Channels = 1
    radix: Channels = 1
    deep_stem: bool = False
    avd: bool = False
    avg_down: bool = False
    bottleneck_width: Channels = 64

    def __post_init__(self) -> None:
        if self.radix > 1:
            for name in ("deep_stem", "avd", "avg_down"):
                object.__setattr__(self, name, True)


@dataclass(frozen=True)
class FPN:
    """MODEL.FPN."""

    in_features: Names = ()
    out_channels: Channels = 256
    norm: Norm = ""


@dataclass(frozen=True)
class ProposalGenerator:
    """MODEL.PROPOSAL_GENERATOR."""

    min_size: NonNegative = 0  # pixels of the network's input


@dataclass(frozen=True)
class AnchorGenerator:
    """MODEL.ANCHOR_GENERATOR. One inner tuple per feature level, or one for all levels."""

    sizes: tuple[tuple[PositiveFloat, ...], ...] = ((32.0, 64.0, 128.0, 256.0, 512.0),)  # pixels
    aspect_ratios: tuple[tuple[PositiveFloat, ...], ...] = ((0.5, 1.0, 2.0),)  # height / width
    offset: Annotated[float, Bounds(0, 0.999)] = 0.0  # of the first anchor's centre, in strides


@dataclass(frozen=True)
class RPN:
    """MODEL.RPN."""

    in_features: Names = ("res4",)
    iou_thresholds: tuple[Fraction, ...] = (0.3, 0.7)
    iou_labels: tuple[Literal[-1, 0, 1], ...] = (0, -1, 1)  # one more than thresholds; -1 is ignored
    batch_size_per_image: PositiveInt = 256
    positive_fraction: Fraction = 0.5
    bbox_reg_loss_weight: Weight = 1.0
    bbox_reg_weights: Weights4 = (1.0, 1.0, 1.0, 1.0)
    smooth_l1_beta: Weight = 0.0  # 0 is the plain L1 loss
    loss_weight: Weight = 1.0
    pre_nms_topk_train: PositiveInt = 12000  # per level
    pre_nms_topk_test: PositiveInt = 6000
    post_nms_topk_train: PositiveInt = 2000  # per image
    post_nms_topk_test: PositiveInt = 1000
    nms_thresh: Fraction = 0.7


@dataclass(frozen=True)
class ROIHeads:
    """MODEL.ROI_HEADS."""

    name: Literal["Res5ROIHeads", "StandardROIHeads", "CascadeROIHeads"] = "Res5ROIHeads"
    num_classes: PositiveInt = 80
    in_features: Names = ("res4",)
    iou_thresholds: tuple[Fraction, ...] = (0.5,)
    iou_labels: tuple[Literal[-1, 0, 1], ...] = (0, 1)
    batch_size_per_image: PositiveInt = 512
    positive_fraction: Fraction = 0.25
    score_thresh_test: Fraction = 0.05
    nms_thresh_test: Fraction = 0.5
    proposal_append_gt: bool = True


@dataclass(frozen=True)
class ROIBoxHead:
    """MODEL.ROI_BOX_HEAD."""

    name: Literal["", "FastRCNNConvFCHead"] = ""
    bbox_reg_loss_weight: Weight = 1.0
    bbox_reg_weights: Weights4 = (10.0, 10.0, 5.0, 5.0)
    smooth_l1_beta: Weight = 0.0
    pooler_resolution: Resolution = 14
    pooler_sampling_ratio: NonNegative = 0  # 0 adapts to the size of the region
    num_fc: Layers = 0
    fc_dim: Channels = 1024
    num_conv: Layers = 0
    conv_dim: Channels = 256
    norm: Norm = ""
    cls_agnostic_bbox_reg: bool = False


@dataclass(frozen=True)
class ROIBoxCascadeHead:
    """MODEL.ROI_BOX_CASCADE_HEAD, one item per stage."""

    bbox_reg_weights: tuple[Weights4, ...] = (
        (10.0, 10.0, 5.0, 5.0),
        (20.0, 20.0, 10.0, 10.0),
        (30.0, 30.0, 15.0, 15.0),
    )
    ious: tuple[Fraction, ...] = (0.5, 0.6, 0.7)
    average: Literal["probabilities", "logits"] = "probabilities"  # of the stages, as the boxes' scores


@dataclass(frozen=True)
class ROIMaskHead:
    """MODEL.ROI_MASK_HEAD."""

    pooler_resolution: Resolution = 14
    pooler_sampling_ratio: NonNegative = 0
    num_conv: Layers = 0
    conv_dim: Channels = 256
    norm: Norm = ""
    cls_agnostic_mask: bool = False
    per_stage: bool = False  # one head for each stage of a cascade, averaged on the final boxes


@dataclass(frozen=True)
class SemSegHead:
    """MODEL.SEM_SEG_HEAD."""

    in_features: Names = ("p2", "p3", "p4", "p5")
    ignore_value: NonNegative = 255
    num_classes: PositiveInt = 54
    convs_dim: Channels = 128
    common_stride: PositiveInt = 4
    norm: Norm = "GN"
    loss_weight: Weight = 1.0


@dataclass(frozen=True)
class Combine:
    """MODEL.PANOPTIC_FPN.COMBINE."""

    overlap_thresh: Fraction = 0.5
    stuff_area_limit: NonNegative = 4096  # pixels
    instances_confidence_thresh: Fraction = 0.5


@dataclass(frozen=True)
class PanopticFPN:
    """MODEL.PANOPTIC_FPN."""

    instance_loss_weight: Weight = 1.0
    combine: Combine = Combine()


@dataclass(frozen=True)
class Model:
    """MODEL."""

    mask_on: bool = False
    device: str = "cuda"
    meta_architecture: Literal["GeneralizedRCNN", "PanopticFPN"] = "GeneralizedRCNN"
    weights: str = ""
    pixel_mean: tuple[float, float, float] = (103.53, 116.28, 123.675)  # in the order of INPUT.FORMAT
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)
    bbox_reg_clamp: Literal["growth", "both"] = "growth"  # of sides: growth alone, or shrinking too
    backbone: Backbone = Backbone()
    resnets: ResNets = ResNets()
    fpn: FPN = FPN()
    proposal_generator: ProposalGenerator = ProposalGenerator()
    anchor_generator: AnchorGenerator = AnchorGenerator()
    rpn: RPN = RPN()
    roi_heads: ROIHeads = ROIHeads()
    roi_box_head: ROIBoxHead = ROIBoxHead()
    roi_box_cascade_head: ROIBoxCascadeHead = ROIBoxCascadeHead()
    roi_mask_head: ROIMaskHead = ROIMaskHead()
    sem_seg_head: SemSegHead = SemSegHead()
    panoptic_fpn: PanopticFPN = PanopticFPN()


@dataclass(frozen=True)
class Crop:
    """INPUT.CROP."""

    enabled: bool = False
    type: Literal["relative_range", "relative", "absolute", "absolute_range"] = "relative_range"
    size: tuple[PositiveFloat, PositiveFloat] = (
        0.9,
        0.9,
    )  # (height, width): fractions, or pixels for "absolute..."


@dataclass(frozen=True)
class Input:
    """INPUT. Sizes are pixels of the shorter (MIN) and longer (MAX) side."""

    min_size_train: tuple[PositiveInt, ...] = (800,)
    min_size_train_sampling: Literal["choice", "range"] = "choice"
    max_size_train: PositiveInt = 1333
    min_size_test: NonNegative = 800  # 0 leaves pictures as they are
    max_size_test: PositiveInt = 1333
    random_flip: Literal["horizontal", "vertical", "none"] = "horizontal"
    crop: Crop = Crop()
    format: Literal["RGB", "BGR"] = "BGR"
    mask_format: Literal["polygon", "bitmask"] = "polygon"


@dataclass(frozen=True)
class Datasets:
    """DATASETS."""

    train: Names = ()
    test: Names = ()


@dataclass(frozen=True)
class DataLoader:
    """DATALOADER."""

    num_workers: NonNegative = 4
    aspect_ratio_grouping: bool = True
    filter_empty_annotations: bool = True


@dataclass(frozen=True)
class ClipGradients:
    """SOLVER.CLIP_GRADIENTS."""

    enabled: bool = False
    clip_type: Literal["value", "norm"] = "value"
    clip_value: Weight = 1.0
    norm_type: PositiveFloat = 2.0


@dataclass(frozen=True)
class AMP:
    """SOLVER.AMP."""

    enabled: bool = False


@dataclass(frozen=True)
class Solver:
    """SOLVER."""

    lr_scheduler_name: Literal["WarmupMultiStepLR", "WarmupCosineLR"] = "WarmupMultiStepLR"
    max_iter: PositiveInt = 40000
    base_lr: Weight = 0.001
    base_lr_end: Weight = 0.0  # of WarmupCosineLR
    momentum: Weight = 0.9
    nesterov: bool = False
    weight_decay: Weight = 0.0001
    weight_decay_norm: Weight = 0.0
    weight_decay_bias: Weight | None = None  # None follows `weight_decay`
    bias_lr_factor: Weight = 1.0
    gamma: Weight = 0.1
    steps: tuple[PositiveInt, ...] = (30000,)
    warmup_factor: Fraction = 0.001
    warmup_iters: NonNegative = 1000
    warmup_method: Literal["linear", "constant"] = "linear"
    checkpoint_period: PositiveInt = 5000
    ims_per_batch: PositiveInt = 16  # of all processes together
    reference_world_size: NonNegative = 0  # 0 does not rescale the schedule to the number of processes
    clip_gradients: ClipGradients = ClipGradients()
    amp: AMP = AMP()


@dataclass(frozen=True)
class Augmentation:
    """TEST.AUG."""

    enabled: bool = False
    min_sizes: tuple[PositiveInt, ...] = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
    max_size: PositiveInt = 4000
    flip: bool = True


@dataclass(frozen=True)
class PreciseBN:
    """TEST.PRECISE_BN."""

    enabled: bool = False
    num_iter: PositiveInt = 200


@dataclass(frozen=True)
class Evaluation:
    """TEST."""

    eval_period: NonNegative = 0  # 0 evaluates only after the last iteration
    detections_per_image: PositiveInt = 100
    aug: Augmentation = Augmentation()
    precise_bn: PreciseBN = PreciseBN()


@dataclass(frozen=True)
class Config:
    """A whole config. `Config()` holds detectron2's defaults, a C4 model that this package cannot build:
    start from `load_config`.
    """

    model: Model = Model()
    input: Input = Input()
    datasets: Datasets = Datasets()
    dataloader: DataLoader = DataLoader()
    solver: Solver = Solver()
    test: Evaluation = Evaluation()
    output_dir: str = "./output"  # of a training run
    seed: Annotated[int, Bounds(-1, 2**63 - 1)] = -1  # of a training run; -1 draws one

    def override(self, opts: Sequence[str] | Mapping[str, object]) -> Config:
        """A new config with some keys changed.

        Args:
            opts: `["KEY", "VALUE", ...]` as on a command line, with values written as Python or YAML
                literals, or a mapping from full keys such as "MODEL.ROI_HEADS.NUM_CLASSES" to values.
                A key that has no effect in this package is logged and dropped.

        Raises:
            ConfigError: an unknown key, a value of the wrong type or range, or a result that cannot be built.
        """
        changes = KEYS.accept_options(opts)
        config = keys.apply(self, changes)
        config.check("overrides")
        return config

    def check(self, source: str = "config") -> None:
        """Refuse combinations of values that no model can be built from.

        Args:
            source: where the values come from, for the message.

        Raises:
            ConfigError: lists every problem found.
        """
        checks.check(self, source)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data under the keys of the YAML; sequences are lists."""
        tree: dict[str, Any] = keys.to_tree(self)
        return tree

    def dump(self) -> str:
        """YAML that reads back as an equal config, here and in detectron2 with the ResNeSt fork's keys.

        The keys of `OWN` are written where they are set: detectron2 would refuse them.
        """
        return yaml.safe_dump({"VERSION": 2, **keys.without_defaults(self, OWN)}, sort_keys=False)


KEYS = keys.KeySet(keys.leaf_hints(Config), FIXED, IGNORED)
