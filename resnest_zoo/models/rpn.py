"""Region proposal network (Ren et al., 2015) over the pyramid.

Legend: N images, C channels, A anchors at one cell, H and W of a level, L levels, R anchors of a level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.anchors import AnchorGenerator
from resnest_zoo.models.layers import Conv2d, at_least_float32, conv_relu, init_normal_
from resnest_zoo.models.matching import Matcher, Sampler, require_finite
from resnest_zoo.ops.boxes import Weights4, box_regression_loss, clip_boxes, decode_boxes, nonempty
from resnest_zoo.ops.nms import counted_rows, nms_by_level
from resnest_zoo.structures import Proposals, SizeHW, Targets


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


@dataclass(frozen=True)
class RPNTraining:
    """What a training step does differently.

    Attributes:
        limits: of the proposals it hands on.
        matcher: of anchors and targets.
        sampler: of the anchors that count.
        smooth_l1_beta: of the box loss; 0 is plain L1.
        objectness_weight: factor of `loss_rpn_cls`.
        box_weight: factor of `loss_rpn_loc`.
    """

    limits: ProposalLimits
    matcher: Matcher
    sampler: Sampler
    smooth_l1_beta: float
    objectness_weight: float
    box_weight: float


class RPN(nn.Module):
    """Proposes boxes from the pyramid."""

    def __init__(
        self,
        in_features: tuple[str, ...],
        anchor_generator: AnchorGenerator,
        rpn_head: RPNHead,
        limits: ProposalLimits,
        box_weights: Weights4,
        in_training: RPNTraining,
        clamp_shrink: bool = False,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.anchor_generator = anchor_generator
        self.rpn_head = rpn_head
        self.limits = limits
        self.box_weights = box_weights
        self.in_training = in_training
        self.clamp_shrink = clamp_shrink

    def forward(
        self,
        features: dict[str, Tensor],
        image_sizes: tuple[SizeHW, ...],
        *,
        counted: bool = False,
    ) -> list[Proposals]:
        """Proposals of each picture, at most `post_nms_topk`, by falling objectness.

        With `counted`, always as many rows as there may be, and a count.
        """
        levels = [features[name] for name in self.in_features]
        answers = (self.rpn_head(level) for level in levels)  # one level in memory at a time
        best = self._best(answers, self.anchor_generator(levels), self.limits)
        return self._select(*best, image_sizes, self.limits, counted)

    def losses(
        self,
        features: dict[str, Tensor],
        image_sizes: tuple[SizeHW, ...],
        targets: Sequence[Targets],
        generator: torch.Generator | None = None,
    ) -> tuple[dict[str, Tensor], list[Proposals]]:
        """`loss_rpn_cls` and `loss_rpn_loc`, and the proposals of a training step, without gradients.

        Args:
            features: of the pictures.
            image_sizes: of the pictures, padding excluded.
            targets: of each picture, on the device of the features.
            generator: of the random choice of anchors.

        Raises:
            NonFiniteError: a proposal is not finite.

        Source: detectron2, `RPN.losses`: both are divided by the number of anchors a full sample would have.
        """
        levels = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(levels)
        answers = [self.rpn_head(level) for level in levels]
        with torch.no_grad():
            boxes, logits, rows = self._best(answers, anchors, self.in_training.limits)
            require_finite("the RPN's proposals", boxes, logits)
            proposals = self._select(boxes, logits, rows, image_sizes, self.in_training.limits)
        return self._losses(answers, torch.cat(anchors), targets, generator), proposals

    def _losses(
        self,
        answers: list[tuple[Tensor, Tensor]],
        anchors: Tensor,
        targets: Sequence[Targets],
        generator: torch.Generator | None,
    ) -> dict[str, Tensor]:
        """The losses of the sampled anchors of all pictures; `anchors` are all levels' (R, 4)."""
        logits = torch.cat([level_logits for level_logits, _ in answers], dim=1).flatten()  # (N * R,)
        deltas = torch.cat([level_deltas for _, level_deltas in answers], dim=1).flatten(0, 1)  # (N * R, 4)
        settings = self.in_training
        positive, negative, matched = [], [], []
        for index, target in enumerate(targets):
            target_of_anchor, labels = settings.matcher(target.boxes, anchors)
            good, bad = settings.sampler(labels, generator)
            matched.append(target.boxes[target_of_anchor[good]])
            positive.append(good + index * len(anchors))
            negative.append(bad + index * len(anchors))
        rows = torch.cat(positive)
        chosen = at_least_float32(logits[torch.cat((rows, *negative))])
        is_object = torch.zeros_like(chosen)
        is_object[: len(rows)] = 1
        objectness = F.binary_cross_entropy_with_logits(chosen, is_object, reduction="sum")
        boxes = box_regression_loss(
            deltas[rows],
            anchors[rows % len(anchors)],
            torch.cat(matched).to(anchors.dtype),
            self.box_weights,
            settings.smooth_l1_beta,
        )
        count = settings.sampler.batch_size * len(targets)
        return {
            "loss_rpn_cls": objectness * (settings.objectness_weight / count),
            "loss_rpn_loc": boxes * (settings.box_weight / count),
        }

    def _best(
        self, answers: Iterable[tuple[Tensor, Tensor]], all_anchors: list[Tensor], limits: ProposalLimits
    ) -> tuple[Tensor, Tensor, list[int]]:
        """The best anchors, decoded, level after level: boxes (N, k, 4), logits (N, k), each level's rows."""
        boxes, logits = [], []
        for (level_logits, deltas), anchors in zip(answers, all_anchors, strict=True):
            count = limits.pre_nms_topk
            # A graph for pictures of any size chooses a fixed number; blanks come last, and are not finite.
            if isinstance(level_logits.shape[1], torch.SymInt):
                level_logits = F.pad(level_logits, (0, count), value=-torch.inf)
                deltas, anchors = (F.pad(rows, (0, 0, 0, count)) for rows in (deltas, anchors))
            best, at = level_logits.topk(min(count, level_logits.shape[1]), dim=1)  # (N, k)
            best_deltas = deltas.gather(1, at[:, :, None].expand(-1, -1, 4))  # (N, k, 4)
            decoded = decode_boxes(
                best_deltas.flatten(0, 1),
                anchors[at.flatten()],
                self.box_weights,
                clamp_shrink=self.clamp_shrink,
            )
            boxes.append(decoded.unflatten(0, at.shape))  # (N, k, 4)
            logits.append(best)
        return torch.cat(boxes, 1), torch.cat(logits, 1), [level.shape[1] for level in logits]

    def _select(
        self,
        boxes: Tensor,
        logits: Tensor,
        rows: list[int],
        image_sizes: tuple[SizeHW, ...],
        limits: ProposalLimits,
        counted: bool = False,
    ) -> list[Proposals]:
        """Clip, drop what is empty or not finite, suppress within each level, keep the best."""
        proposals = []
        for image_boxes, image_logits, size in zip(boxes, logits, image_sizes, strict=True):
            finite = image_boxes.isfinite().all(dim=1) & image_logits.isfinite()
            clipped = clip_boxes(image_boxes, size)
            valid = finite & nonempty(clipped, limits.min_side)
            clipped = clipped.masked_fill(~valid[:, None], 0.0)
            scores = image_logits.to(clipped.dtype).masked_fill(~valid, -torch.inf)
            keep = nms_by_level(clipped, scores, rows, limits.nms_thresh)[: limits.post_nms_topk]
            found = Proposals(clipped[keep], image_logits[keep], size)
            proposals.append(_counted(found, min(limits.post_nms_topk, len(clipped))) if counted else found)
        return proposals


def _counted(found: Proposals, limit: int) -> Proposals:
    boxes, logits = counted_rows(found.boxes, limit), counted_rows(found.objectness_logits, limit)
    count = torch.ones_like(found.objectness_logits, dtype=torch.int64).sum()
    return Proposals(boxes, logits, found.image_size, count)
