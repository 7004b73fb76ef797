"""What must hold between the keys of a config before a model can be built from it.

Types and ranges of single values are checked where they are read; here stand the rules that involve
several keys, and detectron2's C4 defaults, which are legal values that this package does not build.
Every problem is reported at once, so that a config is mended in one round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resnest_zoo.errors import ConfigError

if TYPE_CHECKING:
    from resnest_zoo.config.schema import Config, Input, Model

_STAGES = ("res2", "res3", "res4", "res5")


def check(config: Config, source: str) -> None:
    """See `Config.check`."""
    problems = [
        *_check_parts(config.model),
        *_check_features(config.model),
        *_check_group_norm(config.model),
        *_check_matching(config.model),
        *_check_cascade(config.model),
        *_check_input(config.input),
    ]
    if not _rising(config.solver.steps):
        problems.append(f"SOLVER.STEPS: must rise, got {config.solver.steps}")
    if config.solver.base_lr_end > config.solver.base_lr:
        problems.append(f"SOLVER.BASE_LR_END: must not exceed BASE_LR, got {config.solver.base_lr_end}")
    if not config.test.aug.min_sizes:
        problems.append("TEST.AUG.MIN_SIZES: must not be empty")
    if problems:
        raise ConfigError("\n  ".join([f"{source}: no detector can be built from this config", *problems]))


def _check_parts(model: Model) -> Iterator[str]:
    hint = "(the packaged Base-RCNN-FPN.yaml sets this)"
    if model.backbone.name != "build_resnet_fpn_backbone":
        yield f"MODEL.BACKBONE.NAME: set build_resnet_fpn_backbone, got {model.backbone.name!r} {hint}"
    if model.roi_heads.name == "Res5ROIHeads":
        yield f"MODEL.ROI_HEADS.NAME: set StandardROIHeads or CascadeROIHeads, got 'Res5ROIHeads' {hint}"
    if model.roi_box_head.name != "FastRCNNConvFCHead":
        yield f"MODEL.ROI_BOX_HEAD.NAME: set FastRCNNConvFCHead, got {model.roi_box_head.name!r} {hint}"
    if model.roi_box_head.num_conv + model.roi_box_head.num_fc == 0:
        yield f"MODEL.ROI_BOX_HEAD.NUM_CONV and NUM_FC: must not both be 0 {hint}"
    if model.meta_architecture == "PanopticFPN" and not model.mask_on:
        yield "MODEL.MASK_ON: set True, PanopticFPN combines masks"
    if model.resnets.avd and model.resnets.stride_in_1x1:
        yield "MODEL.RESNETS.STRIDE_IN_1X1: set False, ResNeSt's pooling (AVD) takes the stride"
    if not 1 <= (width := _width(model)) <= 2**16:
        yield (
            "MODEL.RESNETS: set NUM_GROUPS * WIDTH_PER_GROUP * BOTTLENECK_WIDTH / 64, the channels of res2's "
            f"3x3 convolutions, from 1 to {2**16}, got {width}"
        )


def _width(model: Model) -> int:
    resnets = model.resnets
    return resnets.num_groups * resnets.width_per_group * resnets.bottleneck_width // 64


def _check_features(model: Model) -> Iterator[str]:
    inputs = model.fpn.in_features
    if not inputs or inputs != _STAGES[-len(inputs) :]:
        yield f"MODEL.FPN.IN_FEATURES: set consecutive stages that end with res5, got {inputs}"
        return
    missing = sorted(set(inputs) - set(model.resnets.out_features))
    if missing or not set(model.resnets.out_features) <= set(_STAGES):
        yield (
            f"MODEL.RESNETS.OUT_FEATURES: set stages among {_STAGES} that include {inputs}, "
            f"got {model.resnets.out_features}"
        )
    yield from _check_levels(model, tuple(name.replace("res", "p") for name in inputs))


def _check_levels(model: Model, levels: tuple[str, ...]) -> Iterator[str]:
    """Which of the FPN's levels each head reads; `levels` are those made from a stage, p6 comes on top."""
    proposals, regions, semantic = model.rpn.in_features, model.roi_heads.in_features, model.sem_seg_head
    if not _in_order(proposals, (*levels, "p6")):
        yield f"MODEL.RPN.IN_FEATURES: set levels among {(*levels, 'p6')}, in this order, got {proposals}"
    # A region's size tells its level by counting from the first: none may be left out.
    if not _in_order(regions, (*levels, "p6")) or int(regions[-1][1:]) - int(regions[0][1:]) >= len(regions):
        yield (
            f"MODEL.ROI_HEADS.IN_FEATURES: set neighbouring levels of {(*levels, 'p6')}, in this order, "
            f"got {regions}"
        )
    if model.meta_architecture != "PanopticFPN":
        return
    if not _in_order(semantic.in_features, levels):  # doubling p6 may not give the size of p5
        yield (
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES: set levels among {levels}, in this order, "
            f"got {semantic.in_features}"
        )
    elif 2 ** int(semantic.in_features[0][1:]) % semantic.common_stride:
        yield (
            f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE: set a power of two up to the stride of "
            f"{semantic.in_features[0]}, got {semantic.common_stride}"
        )


def _in_order(names: tuple[str, ...], levels: tuple[str, ...]) -> bool:
    return bool(names) and names == tuple(level for level in levels if level in names)


def _check_group_norm(model: Model) -> Iterator[str]:
    resnets, box, mask, semantic = model.resnets, model.roi_box_head, model.roi_mask_head, model.sem_seg_head
    width = _width(model)
    used = [
        ("FPN.OUT_CHANNELS", model.fpn.norm, model.fpn.out_channels),
        ("RESNETS.RES2_OUT_CHANNELS", resnets.norm, resnets.res2_out_channels),
        ("RESNETS.WIDTH_PER_GROUP (times NUM_GROUPS * BOTTLENECK_WIDTH / 64)", resnets.norm, width),
    ]
    if not resnets.deep_stem:
        used.append(("RESNETS.STEM_OUT_CHANNELS", resnets.norm, resnets.stem_out_channels))
    if resnets.radix > 1:  # the small network of split attention, in each stage
        hidden = [max(2**stage * width * resnets.radix // 4, 32) for stage in range(4)]
        used += [("RESNETS.RADIX (a quarter of it times a stage's width)", resnets.norm, n) for n in hidden]
    if box.num_conv:
        used.append(("ROI_BOX_HEAD.CONV_DIM", box.norm, box.conv_dim))
    if model.mask_on and mask.num_conv:
        used.append(("ROI_MASK_HEAD.CONV_DIM", mask.norm, mask.conv_dim))
    if model.meta_architecture == "PanopticFPN":
        used.append(("SEM_SEG_HEAD.CONVS_DIM", semantic.norm, semantic.convs_dim))
    for key, norm, channels in used:
        if norm == "GN" and channels % 32:
            yield f"MODEL.{key}: the norm GN needs channels divisible by 32, got {channels}"


def _check_matching(model: Model) -> Iterator[str]:
    generator, num_levels = model.anchor_generator, len(model.rpn.in_features)
    for name, rows in (("SIZES", generator.sizes), ("ASPECT_RATIOS", generator.aspect_ratios)):
        if len(rows) not in (1, num_levels) or len({len(row) for row in rows}) != 1 or not rows[0]:
            yield (
                f"MODEL.ANCHOR_GENERATOR.{name}: set 1 or {num_levels} lists of one length, as "
                f"MODEL.RPN.IN_FEATURES has levels, got {rows}"
            )
    for section, part in (("RPN", model.rpn), ("ROI_HEADS", model.roi_heads)):
        if not part.iou_thresholds or not _rising(part.iou_thresholds):
            yield f"MODEL.{section}.IOU_THRESHOLDS: must rise, got {part.iou_thresholds}"
        if len(part.iou_labels) != len(part.iou_thresholds) + 1:
            yield (
                f"MODEL.{section}.IOU_LABELS: set {len(part.iou_thresholds) + 1} labels, one more than "
                f"IOU_THRESHOLDS, got {part.iou_labels}"
            )


def _check_cascade(model: Model) -> Iterator[str]:
    if model.roi_heads.name != "CascadeROIHeads":
        if model.roi_mask_head.per_stage:
            yield "MODEL.ROI_MASK_HEAD.PER_STAGE: set False, only CascadeROIHeads have stages"
        return
    ious, weights = model.roi_box_cascade_head.ious, model.roi_box_cascade_head.bbox_reg_weights
    if not ious or len(ious) != len(weights):
        yield (
            f"MODEL.ROI_BOX_CASCADE_HEAD: set as many IOUS as BBOX_REG_WEIGHTS, "
            f"got {len(ious)} and {len(weights)}"
        )
    if ious[:1] != model.roi_heads.iou_thresholds:
        yield (
            f"MODEL.ROI_HEADS.IOU_THRESHOLDS: set the first of ROI_BOX_CASCADE_HEAD.IOUS {ious}, "
            f"got {model.roi_heads.iou_thresholds}"
        )
    if not model.roi_box_head.cls_agnostic_bbox_reg:
        yield "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG: set True, every stage of a cascade shares its boxes"


def _check_input(settings: Input) -> Iterator[str]:
    sizes, crop = settings.min_size_train, settings.crop
    if not sizes:
        yield "INPUT.MIN_SIZE_TRAIN: must not be empty"
    if settings.min_size_train_sampling == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        yield f"INPUT.MIN_SIZE_TRAIN: set (low, high) for the sampling 'range', got {sizes}"
    if crop.type.startswith("relative") and max(crop.size) > 1:
        yield f"INPUT.CROP.SIZE: set fractions up to 1 for TYPE {crop.type!r}, got {crop.size}"
    if crop.type.startswith("absolute") and not all(side.is_integer() for side in crop.size):
        yield f"INPUT.CROP.SIZE: set whole pixels for TYPE {crop.type!r}, got {crop.size}"


def _rising(values: tuple[float, ...]) -> bool:
    return list(values) == sorted(set(values))
