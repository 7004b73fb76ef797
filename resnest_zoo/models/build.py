"""From a `Config` to a detector: the only place that reads a config and knows which part takes what."""

from __future__ import annotations

from torch import nn

from resnest_zoo.categories import COCO, COCO_PANOPTIC, Categories
from resnest_zoo.config import Config
from resnest_zoo.errors import ConfigError
from resnest_zoo.models.anchors import AnchorGenerator
from resnest_zoo.models.cascade import CascadeROIHeads
from resnest_zoo.models.fpn import FPN
from resnest_zoo.models.layers import DeformConv2d
from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.models.matching import Matcher, ProposalSampling, Sampler
from resnest_zoo.models.panoptic import MergeLimits
from resnest_zoo.models.preprocess import Preprocessing
from resnest_zoo.models.rcnn import GeneralizedRCNN, PanopticFPN, SemanticBranch
from resnest_zoo.models.resnet import BLOCKS_PER_STAGE, BlockStyle, DeepStem, ResNet, Stem, make_stage
from resnest_zoo.models.roi_heads import BoxHead, BoxPredictor, DetectionLimits, ROIHeads, ROIPooler
from resnest_zoo.models.rpn import RPN, ProposalLimits, RPNHead, RPNTraining
from resnest_zoo.models.semantic import SemSegFPNHead
from resnest_zoo.ops.boxes import Weights4


def build_model(cfg: Config, categories: Categories | None = None) -> GeneralizedRCNN:
    """Build the detector that `cfg` describes, freshly initialised, in evaluation mode.

    Args:
        cfg: as `load_config` gives it.
        categories: names of its classes; what is not given is COCO's where the numbers of classes are
            COCO's, else placeholders.

    Raises:
        ConfigError: no detector can be built from `cfg`, or `categories` do not fit its numbers of classes.
    """
    cfg.check()
    panoptic = cfg.model.meta_architecture == "PanopticFPN"
    categories = _complete_categories(cfg, categories)
    backbone = _build_backbone(cfg)
    parts = (
        backbone,
        _build_rpn(cfg, backbone),
        _build_roi_heads(cfg, backbone),
        _build_preprocessing(cfg, backbone),
        categories,
    )
    model = PanopticFPN(*parts, _build_semantic(cfg, backbone)) if panoptic else GeneralizedRCNN(*parts)
    for name, module in model.named_modules():
        if isinstance(module, DeformConv2d):
            module.name = name
    model.config = cfg
    return model.eval()


def _complete_categories(cfg: Config, given: Categories | None) -> Categories:
    """The categories given, with COCO's or placeholder names where none are, checked against the config."""
    count = cfg.model.roi_heads.num_classes
    things = given or (COCO if count == len(COCO.things) else Categories.numbered(count))
    if len(things.things) != count:
        raise ConfigError(f"{len(things.things)} category names for MODEL.ROI_HEADS.NUM_CLASSES {count}")
    if cfg.model.meta_architecture != "PanopticFPN":
        return things
    count = cfg.model.sem_seg_head.num_classes
    if things.stuff:
        stuff, stuff_ids = things.stuff, things.stuff_ids
    elif count == len(COCO_PANOPTIC.stuff):
        stuff, stuff_ids = COCO_PANOPTIC.stuff, COCO_PANOPTIC.stuff_ids
    else:
        stuff, stuff_ids = ("things", *(f"stuff_{k}" for k in range(1, count))), tuple(range(count))
    if len(stuff) != count:
        raise ConfigError(f"{len(stuff)} stuff names for MODEL.SEM_SEG_HEAD.NUM_CLASSES {count}")
    return Categories(things.things, things.thing_ids, stuff, stuff_ids)


def _build_preprocessing(cfg: Config, backbone: FPN) -> Preprocessing:
    return Preprocessing(
        channel_order=cfg.input.format,
        pixel_mean=cfg.model.pixel_mean,
        pixel_std=cfg.model.pixel_std,
        min_size=cfg.input.min_size_test,
        max_size=cfg.input.max_size_test,
        size_divisibility=backbone.size_divisibility,
    )


def build_bottom_up(cfg: Config) -> ResNet:
    """The bottom-up network alone, freshly initialised, its first stages frozen as `cfg` says."""
    bottom_up = _build_resnet(cfg)
    bottom_up.freeze_stages(cfg.model.backbone.freeze_at)
    return bottom_up


def _build_backbone(cfg: Config) -> FPN:
    fpn = cfg.model.fpn
    return FPN(build_bottom_up(cfg), fpn.in_features, fpn.out_channels, fpn.norm)


def _build_resnet(cfg: Config) -> ResNet:
    c = cfg.model.resnets
    stem = _build_stem(cfg)
    in_channels, out_channels = stem.out_channels, c.res2_out_channels
    width = c.num_groups * c.width_per_group * c.bottleneck_width // 64
    stride = 4
    stages, channels, strides = {}, {}, {}
    for index, num_blocks in enumerate(BLOCKS_PER_STAGE[c.depth]):
        first_stride = 1 if index == 0 else 2
        style = BlockStyle(
            norm=c.norm,
            groups=c.num_groups,
            radix=c.radix,
            stride_in_1x1=c.stride_in_1x1,
            avg_before_stride=c.avd,
            avg_shortcut=c.avg_down,
            deform_groups=c.deform_num_groups if c.deform_on_per_stage[index] else 0,
            modulated=c.deform_modulated,
        )
        name = f"res{index + 2}"
        stages[name] = make_stage(in_channels, out_channels, width, num_blocks, first_stride, style)
        stride *= first_stride
        channels[name], strides[name] = out_channels, stride
        in_channels, out_channels, width = out_channels, 2 * out_channels, 2 * width
    return ResNet(stem, stages, channels, strides)


def _build_stem(cfg: Config) -> Stem | DeepStem:
    c = cfg.model.resnets
    if c.deep_stem:
        return DeepStem(32 if c.depth <= 50 else 64, c.norm)
    return Stem(c.stem_out_channels, c.norm)


def _build_rpn(cfg: Config, backbone: FPN) -> RPN:
    c = cfg.model.rpn
    anchors = AnchorGenerator(
        cfg.model.anchor_generator.sizes,
        cfg.model.anchor_generator.aspect_ratios,
        tuple(backbone.out_strides[name] for name in c.in_features),
        cfg.model.anchor_generator.offset,
    )
    min_side = cfg.model.proposal_generator.min_size
    limits = ProposalLimits(c.pre_nms_topk_test, c.post_nms_topk_test, c.nms_thresh, min_side)
    in_training = RPNTraining(
        ProposalLimits(c.pre_nms_topk_train, c.post_nms_topk_train, c.nms_thresh, min_side),
        Matcher(c.iou_thresholds, c.iou_labels, low_quality=True),
        Sampler(c.batch_size_per_image, c.positive_fraction),
        c.smooth_l1_beta,
        c.loss_weight,
        c.loss_weight * c.bbox_reg_loss_weight,
    )
    head = RPNHead(backbone.out_channels, anchors.num_anchors)
    clamp_shrink = cfg.model.bbox_reg_clamp == "both"
    return RPN(c.in_features, anchors, head, limits, c.bbox_reg_weights, in_training, clamp_shrink)


def _build_roi_heads(cfg: Config, backbone: FPN) -> ROIHeads:
    c, box = cfg.model.roi_heads, cfg.model.roi_box_head
    cascade = c.name == "CascadeROIHeads"
    weights_of_stages: tuple[Weights4, ...] = (box.bbox_reg_weights,)
    matchers: tuple[Matcher, ...] = (Matcher(c.iou_thresholds, c.iou_labels),)
    if cascade:
        weights_of_stages = cfg.model.roi_box_cascade_head.bbox_reg_weights
        matchers = tuple(Matcher((iou,), (0, 1)) for iou in cfg.model.roi_box_cascade_head.ious)
    heads, predictors = [], []
    for weights in weights_of_stages:
        head = _build_box_head(cfg, backbone)
        heads.append(head)
        predictors.append(
            BoxPredictor(
                head.out_features,
                c.num_classes,
                box.cls_agnostic_bbox_reg,
                weights,
                box.smooth_l1_beta,
                box.bbox_reg_loss_weight,
                cfg.model.bbox_reg_clamp == "both",
            )
        )
    pooler = _build_pooler(cfg, backbone, box.pooler_resolution, box.pooler_sampling_ratio)
    limits = DetectionLimits(c.score_thresh_test, c.nms_thresh_test, cfg.test.detections_per_image)
    sampler = Sampler(c.batch_size_per_image, c.positive_fraction)
    sampling = ProposalSampling(matchers, sampler, c.proposal_append_gt)
    mask = _build_mask_branch(cfg, backbone) if cfg.model.mask_on else None
    if cascade:
        lists = nn.ModuleList(heads), nn.ModuleList(predictors)
        stages = CascadeROIHeads(pooler, *lists, limits, sampling, mask)
        stages.average_logits = cfg.model.roi_box_cascade_head.average == "logits"
        return stages
    return ROIHeads(pooler, heads[0], predictors[0], limits, sampling, mask)


def _build_box_head(cfg: Config, backbone: FPN) -> BoxHead:
    c = cfg.model.roi_box_head
    return BoxHead(
        backbone.out_channels,
        c.pooler_resolution,
        (c.conv_dim,) * c.num_conv,
        (c.fc_dim,) * c.num_fc,
        c.norm,
    )


def _build_pooler(cfg: Config, backbone: FPN, resolution: int, sampling_ratio: int) -> ROIPooler:
    in_features = cfg.model.roi_heads.in_features
    strides = tuple(backbone.out_strides[name] for name in in_features)
    return ROIPooler(in_features, strides, resolution, sampling_ratio)


def _build_mask_branch(cfg: Config, backbone: FPN) -> tuple[ROIPooler, nn.Module]:
    c = cfg.model.roi_mask_head
    heads = [
        MaskHead(
            backbone.out_channels,
            (c.conv_dim,) * (c.num_conv + 1),
            cfg.model.roi_heads.num_classes,
            c.cls_agnostic_mask,
            c.norm,
        )
        for _ in (cfg.model.roi_box_cascade_head.ious if c.per_stage else (0,))
    ]
    pooler = _build_pooler(cfg, backbone, c.pooler_resolution, c.pooler_sampling_ratio)
    return pooler, nn.ModuleList(heads) if c.per_stage else heads[0]


def _build_semantic(cfg: Config, backbone: FPN) -> SemanticBranch:
    c = cfg.model.sem_seg_head
    head = SemSegFPNHead(
        c.in_features,
        tuple(backbone.out_strides[name] for name in c.in_features),
        backbone.out_channels,
        c.convs_dim,
        c.common_stride,
        c.num_classes,
        c.norm,
    )
    combine = cfg.model.panoptic_fpn.combine
    limits = MergeLimits(
        combine.overlap_thresh, combine.stuff_area_limit, combine.instances_confidence_thresh
    )
    return SemanticBranch(
        head, limits, c.ignore_value, c.loss_weight, cfg.model.panoptic_fpn.instance_loss_weight
    )
