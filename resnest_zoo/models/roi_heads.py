"""The second stage: pool each proposal from the pyramid, classify it, refine its box, predict its mask.

Fast R-CNN (Girshick, 2015) with the convolutional box head of Wu and He (2018); pooling by ROIAlign and
masks by Mask R-CNN (He et al., 2017). The cascade of three such stages stands in `cascade.py`.

Legend: N images, R proposals of all images, C channels, S pooled side, K classes, M mask side, H and W.
Boxes are xyxy in pixels of the padded input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.layers import (
    Conv2d,
    at_least_float32,
    conv_relu,
    init_msra_,
    init_normal_,
    init_xavier_,
)
from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.models.mask_targets import crop_masks
from resnest_zoo.models.matching import ProposalSampling, Samples
from resnest_zoo.ops.boxes import Weights4, box_area, box_regression_loss, clip_boxes, decode_boxes
from resnest_zoo.ops.nms import counted_rows, grouped_nms
from resnest_zoo.ops.sampling import roi_align
from resnest_zoo.structures import Detections, Proposals, SizeHW, Targets

# A box of this size belongs to level 4 (stride 16), as an ImageNet picture does (FPN, equation 1).
_CANONICAL_SIZE = 224
_CANONICAL_LEVEL = 4


class ROIPooler:
    """ROIAlign of boxes from the level that suits their size. It has no parameters."""

    def __init__(
        self, in_features: tuple[str, ...], strides: tuple[int, ...], output_size: int, sampling_ratio: int
    ) -> None:
        self.in_features = in_features
        self.strides = strides
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.min_level = strides[0].bit_length() - 1

    def __call__(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Pool the boxes of each image, (R_i, 4), to (R, C, S, S) in the same order."""
        levels = [features[name] for name in self.in_features]
        # ROIAlign reads out of bounds for NaN. Such rows keep their NaN elsewhere and are dropped at the end.
        boxes = [b.nan_to_num(0.0, 0.0, 0.0) for b in boxes]
        rois = torch.cat([F.pad(b, (1, 0), value=float(i)) for i, b in enumerate(boxes)])  # (R, 5)
        assigned = self._assign_levels(torch.cat(boxes))
        rows = [(assigned == index).nonzero().flatten() for index in range(len(levels))]
        parts = [
            roi_align(level, rois[at], self.output_size, 1.0 / stride, self.sampling_ratio)
            for level, stride, at in zip(levels, self.strides, rows, strict=True)
        ]
        pooled: Tensor = _InRows.apply(len(rois), rows, *parts)  # (R, C, S, S)
        return pooled

    def _assign_levels(self, boxes: Tensor) -> Tensor:
        """(R,) index into `in_features`."""
        relative: Tensor = box_area(boxes).sqrt() / _CANONICAL_SIZE
        level = (_CANONICAL_LEVEL + (relative + 1e-8).log2()).floor().long()
        return (level - self.min_level).clamp(0, len(self.strides) - 1)


class _InRows(torch.autograd.Function):
    """Parts in their rows of one tensor; PyTorch's own would copy the whole gradient for each part."""

    @staticmethod
    def forward(ctx: Any, count: int, rows: list[Tensor], *parts: Tensor) -> Tensor:
        ctx.rows = rows
        whole = parts[0].new_empty((count, *parts[0].shape[1:]))
        for at, part in zip(rows, parts, strict=True):
            whole.index_copy_(0, at, part)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grads[0].index_select(0, at) for at in ctx.rows)


class BoxHead(nn.Module):
    """3x3 convolutions, then fully connected layers, each with ReLU: conv1 …, fc1 …."""

    def __init__(
        self,
        in_channels: int,
        resolution: int,
        conv_dims: tuple[int, ...],
        fc_dims: tuple[int, ...],
        norm: str,
    ) -> None:
        super().__init__()
        self.num_convs, self.num_fcs = len(conv_dims), len(fc_dims)
        channels = in_channels
        for k, dim in enumerate(conv_dims, 1):
            conv = Conv2d(channels, dim, 3, norm=norm)
            init_msra_(conv)
            self.add_module(f"conv{k}", conv)
            channels = dim
        features = channels * resolution * resolution
        for k, dim in enumerate(fc_dims, 1):
            linear = nn.Linear(features, dim)
            init_xavier_(linear)
            self.add_module(f"fc{k}", linear)
            features = dim
        self.out_features = features

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, S, S) to (R, `out_features`)."""
        for k in range(1, self.num_convs + 1):
            x = conv_relu(self.get_submodule(f"conv{k}"), x)
        x = x.flatten(1)  # (R, C * S * S)
        for k in range(1, self.num_fcs + 1):
            x = F.relu_(self.get_submodule(f"fc{k}")(x))
        return x


class BoxPredictor(nn.Module):
    """Class logits and box deltas of a pooled proposal.

    Deltas are of each class or, `class_agnostic`, one for all.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        class_agnostic: bool,
        box_weights: Weights4,
        smooth_l1_beta: float = 0.0,
        box_loss_weight: float = 1.0,
        clamp_shrink: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_agnostic = class_agnostic
        self.smooth_l1_beta = smooth_l1_beta
        self.box_loss_weight = box_loss_weight
        self.cls_score = nn.Linear(in_features, num_classes + 1)
        self.bbox_pred = nn.Linear(in_features, 4 if class_agnostic else 4 * num_classes)
        self.box_weights = box_weights
        self.clamp_shrink = clamp_shrink
        self.class_layers = ("cls_score",) if class_agnostic else ("cls_score", "bbox_pred")
        init_normal_(self.cls_score, std=0.01)
        init_normal_(self.bbox_pred, std=0.001)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, F) to logits (R, K + 1), background last, and deltas (R, 4 * K or 4)."""
        return self.cls_score(x), self.bbox_pred(x)

    def decode(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Deltas (R, 4 * K or 4) of boxes (R, 4) to boxes (R, 4 * K or 4), not clipped."""
        return decode_boxes(deltas, boxes, self.box_weights, clamp_shrink=self.clamp_shrink)

    def losses(self, logits: Tensor, deltas: Tensor, samples: Sequence[Samples]) -> dict[str, Tensor]:
        """`loss_cls` and `loss_box_reg` of what `forward` gave for the samples of all pictures.

        Both are divided by R, so that each box of the foreground counts alike in any batch.

        Source: detectron2, `FastRCNNOutputLayers.losses`.
        """
        starts = [0, *accumulate(len(s.boxes) for s in samples)]
        rows = torch.cat([s.foreground + start for s, start in zip(samples, starts[:-1], strict=True)])
        classes = torch.full((starts[-1],), self.num_classes, device=logits.device)
        classes[rows] = torch.cat([s.target_classes for s in samples])
        class_loss = F.cross_entropy(at_least_float32(logits), classes, reduction="sum")
        column = torch.zeros_like(rows) if self.class_agnostic else classes[rows]
        box_loss = box_regression_loss(
            deltas.unflatten(1, (-1, 4))[rows, column],
            torch.cat([s.boxes for s in samples])[rows],
            torch.cat([s.target_boxes for s in samples]),
            self.box_weights,
            self.smooth_l1_beta,
        )
        count = max(starts[-1], 1)
        return {"loss_cls": class_loss / count, "loss_box_reg": box_loss * (self.box_loss_weight / count)}


@dataclass(frozen=True)
class DetectionLimits:
    """Which scored boxes become detections.

    Attributes:
        score_thresh: scores must exceed it.
        nms_thresh: IoU above which the weaker box of one class falls.
        topk: detections kept of a picture.
    """

    score_thresh: float
    nms_thresh: float
    topk: int


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    image_size: SizeHW,
    limits: DetectionLimits,
    count: Tensor | None = None,
) -> Detections:
    """Threshold, suppress within each class, keep the best.

    Args:
        boxes: (R, 4 * K), or (R, 4) shared by all classes.
        scores: (R, K + 1) in [0, 1], background last.
        image_size: boxes are clipped to it.
        limits: what to keep.
        count: () int64, how many of the first rows count; None: all do.

    Returns:
        Detections by falling score. Rows that are not finite are left out. With `count`, always
        `limits.topk` rows, and their count.

    Source: detectron2, `fast_rcnn_inference_single_image`.
    """
    usable = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    if count is not None:
        usable = usable & (torch.arange(len(boxes), device=boxes.device) < count)
    boxes = clip_boxes(boxes.unflatten(1, (-1, 4)), image_size)  # (R, K or 1, 4)
    scores = scores[:, :-1]
    rows, classes = ((scores > limits.score_thresh) & usable[:, None]).nonzero(as_tuple=True)
    scores = scores[rows, classes]
    boxes = boxes[rows, 0] if boxes.shape[1] == 1 else boxes[rows, classes]
    best = grouped_nms(boxes, scores, classes, limits.nms_thresh)[: limits.topk]
    boxes, scores, classes = boxes[best], scores[best], classes[best]
    if count is None:
        return Detections(boxes, scores, classes, image_size)
    boxes, scores, classes = (counted_rows(found, limits.topk) for found in (boxes, scores, classes))
    return Detections(boxes, scores, classes, image_size, count=torch.ones_like(best).sum())


def mask_regions(samples: list[Samples]) -> list[tuple[Tensor, Tensor]]:
    """Each picture's matched targets (F,) and foreground boxes (F, 4), on the CPU."""
    return [(s.matched.cpu(), s.boxes[s.foreground].cpu()) for s in samples]


class ROIHeads(nn.Module):
    """Boxes by one stage, and masks of the boxes found.

    A subclass replaces `detect_boxes` and `box_losses`, and may replace what concerns masks.
    """

    def __init__(
        self,
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        limits: DetectionLimits,
        sampling: ProposalSampling,
        mask_branch: tuple[ROIPooler, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.limits = limits
        self.sampling = sampling
        self.mask_pooler: ROIPooler | None = None
        self.mask_head: nn.Module | None = None
        if mask_branch is not None:
            self.mask_pooler, self.mask_head = mask_branch

    def detect_boxes(self, features: dict[str, Tensor], proposals: list[Proposals]) -> list[Detections]:
        """Classify and refine the proposals of each image."""
        predictor: BoxPredictor = self.box_predictor  # type: ignore[assignment]
        boxes = [p.boxes for p in proposals]
        logits, deltas = predictor(self.box_head(self.box_pooler(features, boxes)))
        decoded = predictor.decode(deltas, torch.cat(boxes))
        return self.select(decoded, logits.softmax(dim=1), proposals)

    def select(self, boxes: Tensor, scores: Tensor, proposals: list[Proposals]) -> list[Detections]:
        """Split rows of all images, (R, ·), by image and keep the best of each."""
        counts = [len(p.boxes) for p in proposals]
        return [
            select_detections(image_boxes, image_scores, p.image_size, self.limits, p.count)
            for image_boxes, image_scores, p in zip(
                boxes.split(counts), scores.split(counts), proposals, strict=True
            )
        ]

    def add_masks(self, features: dict[str, Tensor], detections: list[Detections]) -> list[Detections]:
        """The same detections with `mask_probs`; unchanged where the model has no mask head."""
        if self.mask_head is None or self.mask_pooler is None:
            return detections
        pooled = self.mask_pooler(features, [d.boxes for d in detections])
        probs = self.mask_probs(pooled, torch.cat([d.classes for d in detections]))  # (R, M, M)
        counts = [len(d.boxes) for d in detections]
        return [replace(d, mask_probs=p) for d, p in zip(detections, probs.split(counts), strict=True)]

    def mask_probs(self, pooled: Tensor, classes: Tensor) -> Tensor:
        """Probabilities of each box's own class: (R, C, S, S) and (R,) to (R, M, M)."""
        assert self.mask_head is not None
        probs: Tensor = self.mask_head(pooled, classes)
        return probs

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Proposals],
        targets: Sequence[Targets],
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The losses of one training step: of the boxes, and of the masks where the model has a mask head.

        Args:
            features: of the pictures.
            proposals: of each picture, without gradients.
            targets: of each picture, on the device of the features.
            generator: of the random choice of proposals.

        Raises:
            NonFiniteError: a stage's boxes are not finite.

        Source: detectron2, `StandardROIHeads.forward`.
        """
        samples = [self.sampling(p, t, generator) for p, t in zip(proposals, targets, strict=True)]
        if self.mask_head is None:
            return self.box_losses(features, samples, targets)
        # Copied before the box head is queued: polygons are drawn while an accelerator works on that.
        regions = mask_regions(samples)
        losses = self.box_losses(features, samples, targets)
        head: MaskHead = self.mask_head  # type: ignore[assignment]
        pooled = self._pool_foreground(features, samples)
        return losses | {"loss_mask": self._mask_loss(head, pooled, samples, targets, regions)}

    def _pool_foreground(self, features: dict[str, Tensor], samples: list[Samples]) -> Tensor:
        """(F, C, S, S), what the mask head sees of the foreground of all pictures."""
        assert self.mask_pooler is not None
        return self.mask_pooler(features, [s.boxes[s.foreground] for s in samples])

    def _mask_loss(
        self,
        head: MaskHead,
        pooled: Tensor,
        samples: list[Samples],
        targets: Sequence[Targets],
        regions: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Of the foreground, `pooled`; `regions` are those of `samples`."""
        masks = []
        for target, (matched, boxes) in zip(targets, regions, strict=True):
            assert target.masks is not None  # targets without masks were refused
            masks.append(crop_masks(target.masks, matched, boxes, 2 * pooled.shape[-1]))
        classes = torch.cat([s.target_classes for s in samples])
        return head.loss(pooled, classes, torch.cat([m.to(pooled.device) for m in masks]))

    def box_losses(
        self, features: dict[str, Tensor], samples: list[Samples], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of classes and boxes."""
        predictor: BoxPredictor = self.box_predictor  # type: ignore[assignment]
        pooled = self.box_pooler(features, [s.boxes for s in samples])
        logits, deltas = predictor(self.box_head(pooled))
        return predictor.losses(logits, deltas, samples)
