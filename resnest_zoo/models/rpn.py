"""Region proposal network (Ren et al., 2015) over the pyramid.

Legend: N images, C channels, A anchors at one cell, H and W of a level, L levels, R anchors of a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from resnest_zoo.models.anchors import AnchorGenerator
from resnest_zoo.models.layers import Conv2d, conv_relu, init_normal_
from resnest_zoo.ops.boxes import Weights4, decode_boxes, nonempty
from resnest_zoo.structures import Proposals, SizeHW


class RPNHead(nn.Module):
    """A shared 3x3 convolution, then objectness and box deltas for each anchor."""

    def __init__(self, channels: int, num_anchors: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3)
        self.objectness_logits = Conv2d(channels, num_anchors, 1)
        self.anchor_deltas = Conv2d(channels, 4 * num_anchors, 1)
        for layer in (self.conv, self.objectness_logits, self.anchor_deltas):
            init_normal_(layer, std=0.01)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """One level's (N, C, H, W) to logits (N, H * W * A) and deltas (N, H * W * A, 4)."""
        x = conv_relu(self.conv, feature)
        logits = self.objectness_logits(x).permute(0, 2, 3, 1).flatten(1)  # (N, H * W * A)
        deltas = self.anchor_deltas(x).unflatten(1, (-1, 4))  # (N, A, 4, H, W)
        return logits, deltas.permute(0, 3, 4, 1, 2).flatten(1, 3)  # (N, H * W * A, 4)


@dataclass(frozen=True)
class ProposalLimits:
    """How many proposals survive.

    Attributes:
        pre_nms_topk: best anchors kept on each level.
        post_nms_topk: proposals kept of a picture, all levels together.
        nms_thresh: IoU above which the weaker box of one level falls.
        min_side: pixels that a proposal's sides must exceed.
    """

    pre_nms_topk: int
    post_nms_topk: int
    nms_thresh: float
    min_side: float


class RPN(nn.Module):
    """Proposes boxes from the pyramid."""

    def __init__(
        self,
        in_features: tuple[str, ...],
        anchor_generator: AnchorGenerator,
        rpn_head: RPNHead,
        limits: ProposalLimits,
        box_weights: Weights4,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.anchor_generator = anchor_generator
        self.rpn_head = rpn_head
        self.limits = limits
        self.box_weights = box_weights

    def forward(self, features: dict[str, Tensor], image_sizes: tuple[SizeHW, ...]) -> list[Proposals]:
        """Proposals of each picture, at most `post_nms_topk`, by falling objectness."""
        levels = [features[name] for name in self.in_features]
        all_anchors = self.anchor_generator(levels)
        boxes, logits, level_ids = [], [], []
        for index, (level, anchors) in enumerate(zip(levels, all_anchors, strict=True)):
            level_logits, deltas = self.rpn_head(level)
            best, at = level_logits.topk(min(self.limits.pre_nms_topk, len(anchors)), dim=1)  # (N, k)
            best_deltas = deltas.gather(1, at[:, :, None].expand(-1, -1, 4))  # (N, k, 4)
            decoded = decode_boxes(best_deltas.flatten(0, 1), anchors[at.flatten()], self.box_weights)
            boxes.append(decoded.unflatten(0, at.shape))  # (N, k, 4)
            logits.append(best)
            level_ids.append(at.new_full((at.shape[1],), index))
        return self._select(torch.cat(boxes, 1), torch.cat(logits, 1), torch.cat(level_ids), image_sizes)

    def _select(
        self, boxes: Tensor, logits: Tensor, level_ids: Tensor, image_sizes: tuple[SizeHW, ...]
    ) -> list[Proposals]:
        """Clip, drop what is empty or not finite, suppress within each level, keep the best."""
        proposals = []
        for image_boxes, image_logits, size in zip(boxes, logits, image_sizes, strict=True):
            finite = image_boxes.isfinite().all(dim=1) & image_logits.isfinite()
            clipped = clip_boxes_to_image(image_boxes, size)
            valid = finite & nonempty(clipped, self.limits.min_side)
            clipped, kept_logits = clipped[valid], image_logits[valid]
            keep = batched_nms(
                clipped, kept_logits.to(clipped.dtype), level_ids[valid], self.limits.nms_thresh
            )
            keep = keep[: self.limits.post_nms_topk]
            proposals.append(Proposals(clipped[keep], kept_logits[keep], size))
        return proposals
