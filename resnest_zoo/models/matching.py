"""Which boxes a training step learns from: matching with the targets, then a balanced random choice.

Legend: G targets, R boxes, F of them in the foreground, K classes. A label is 1 (positive), 0 (negative) or
-1 (ignored).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resnest_zoo.errors import NonFiniteError
from resnest_zoo.ops.boxes import pairwise_iou
from resnest_zoo.structures import Proposals, SizeHW, Targets

# Pairs compared at once; a matrix of them takes 16 MiB in float32. The anchors of a large picture with a
# hundred targets would take 100 MiB.
_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Matcher:
    """Gives each box the target it overlaps most, and a label by how much that is.

    Attributes:
        thresholds: rising IoUs.
        labels: of the ranges they part, one more than thresholds; a threshold belongs to the range above it.
        low_quality: make positive, too, the boxes that overlap some target as much as any box does. They
            keep the target they overlap most themselves, which may be another one. A target that no box
            overlaps makes every box positive, as in the reference; anchors, which cover the whole picture,
            leave none alone.

    Source: Faster R-CNN (Ren et al., 2015), section 3.1.2; detectron2, `Matcher`.
    """

    thresholds: tuple[float, ...]
    labels: tuple[int, ...]
    low_quality: bool = False

    @torch.no_grad()
    def __call__(self, targets: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Match boxes (R, 4) with target boxes (G, 4).

        Returns:
            (R,) int64 indices of targets, and (R,) int8 labels. Without targets all indices are 0, which
            then names no target, and all labels the first.
        """
        indices = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        labels = torch.full_like(indices, self.labels[0], dtype=torch.int8)
        if len(targets) == 0 or len(boxes) == 0:
            return indices, labels
        chunk = max(1, _PAIRS_AT_ONCE // len(targets))
        parts = list(zip(boxes.split(chunk), indices.split(chunk), labels.split(chunk), strict=True))
        best_of_target = boxes.new_zeros(len(targets), dtype=torch.promote_types(boxes.dtype, targets.dtype))
        for part, part_indices, part_labels in parts:
            iou = pairwise_iou(targets, part)  # (G, R)
            best_of_target = torch.maximum(best_of_target, iou.amax(dim=1))
            best, at = iou.max(dim=0)
            part_indices.copy_(at)
            for threshold, label in zip(self.thresholds, self.labels[1:], strict=True):
                part_labels.masked_fill_(best >= threshold, label)
        if self.low_quality:
            for part, _, part_labels in parts:
                reached = pairwise_iou(targets, part) == best_of_target[:, None]
                part_labels.masked_fill_(reached.any(dim=0), 1)
        return indices, labels


@dataclass(frozen=True)
class Sampler:
    """Chooses labelled boxes of one picture at random.

    Attributes:
        batch_size: boxes to choose, fewer where there are not enough.
        positive_fraction: of them, at most, positive; negative ones fill up.

    Source: detectron2, `subsample_labels`.
    """

    batch_size: int
    positive_fraction: float

    def __call__(self, labels: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Indices of the chosen positive and negative boxes among (R,) `labels`.

        Random numbers are drawn on the generator's device: one of the CPU gives the same choice everywhere.
        """
        positive = (labels == 1).nonzero().flatten()
        negative = (labels == 0).nonzero().flatten()
        num_positive = min(len(positive), int(self.batch_size * self.positive_fraction))
        num_negative = min(len(negative), self.batch_size - num_positive)
        return _choose(positive, num_positive, generator), _choose(negative, num_negative, generator)


def _choose(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if count == len(indices):
        return indices
    device = indices.device if generator is None else generator.device
    order = torch.randperm(len(indices), generator=generator, device=device)
    return indices[order[:count].to(indices.device)]


@dataclass(frozen=True, eq=False)
class Samples:
    """Boxes of one picture that a training step learns from, and the targets of those in the foreground.

    Attributes:
        boxes: (R, 4), pixels of the model's input.
        foreground: (F,) int64, the rows that have a target.
        matched: (F,) int64, the index of each one's target.
        target_boxes: (F, 4).
        target_classes: (F,) int64 in 0 … K-1.
        image_size: of the model's input, padding excluded.
    """

    boxes: Tensor
    foreground: Tensor
    matched: Tensor
    target_boxes: Tensor
    target_classes: Tensor
    image_size: SizeHW

    @classmethod
    def label(
        cls, boxes: Tensor, matched: Tensor, labels: Tensor, targets: Targets, image_size: SizeHW
    ) -> Samples:
        """Look up what a matcher found for `boxes`: label 1 is foreground, all others are background."""
        foreground = (labels == 1).nonzero().flatten()
        matched = matched[foreground]
        target_boxes = targets.boxes[matched].to(boxes.dtype)
        return cls(boxes, foreground, matched, target_boxes, targets.classes[matched], image_size)


@dataclass(frozen=True)
class ProposalSampling:
    """Which proposals a training step learns from.

    Attributes:
        matchers: of boxes and targets, one for each box stage.
        sampler: of the proposals that count.
        append_targets: add the targets' own boxes, so that there are good proposals from the start.
    """

    matchers: tuple[Matcher, ...]
    sampler: Sampler
    append_targets: bool

    @torch.no_grad()
    def __call__(
        self, proposals: Proposals, targets: Targets, generator: torch.Generator | None = None
    ) -> Samples:
        """Choose among the proposals of one picture."""
        boxes = proposals.boxes
        if self.append_targets:
            boxes = torch.cat((boxes, targets.boxes.to(boxes.dtype)))
        matched, labels = self.matchers[0](targets.boxes, boxes)
        if len(targets) == 0:
            labels.zero_()  # all background, even where the first label is to ignore
        chosen = torch.cat(self.sampler(labels, generator))
        return Samples.label(boxes[chosen], matched[chosen], labels[chosen], targets, proposals.image_size)


def require_finite(what: str, *tensors: Tensor) -> None:
    """Stop a training step that has nothing left to learn from.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise NonFiniteError(
            f"{what} hold NaN or infinite values: training has diverged; go back to a finite checkpoint and "
            "lower SOLVER.BASE_LR, raise SOLVER.WARMUP_ITERS or set SOLVER.CLIP_GRADIENTS.ENABLED"
        )
