"""Cascade R-CNN (Cai and Vasconcelos, 2018): three box stages, each refining the boxes of the last.

Two things differ between implementations and are settings here: whether the stages' probabilities or their
logits are averaged, and whether one mask head serves the final boxes or each stage has one of its own.

Legend: R proposals of all images, F of them in the foreground, K classes, C channels, S pooled side, M mask
side. Boxes are xyxy in pixels of the padded input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.models.matching import Samples, require_finite
from resnest_zoo.models.roi_heads import BoxPredictor, ROIHeads, mask_regions
from resnest_zoo.ops.boxes import clip_boxes, nonempty
from resnest_zoo.structures import Detections, Proposals, Targets


class CascadeROIHeads(ROIHeads):
    """`box_head` and `box_predictor` are lists, one item for each stage; deltas are class-agnostic.

    Attributes:
        average_logits: scores are the softmax of the stages' mean logits, as in mmdetection, instead of the
            mean of their probabilities, as in detectron2.
        mask_head: one for the final boxes, or a list of one for each stage, whose probabilities are averaged
            on the final boxes.
    """

    box_head: nn.ModuleList
    box_predictor: nn.ModuleList
    average_logits = False

    def detect_boxes(self, features: dict[str, Tensor], proposals: list[Proposals]) -> list[Detections]:
        """Boxes of the last stage, scored by the mean of all stages."""
        counts = [len(p.boxes) for p in proposals]
        scores = []
        for head, predictor in zip(self.box_head, self.box_predictor, strict=True):
            boxes = [p.boxes for p in proposals]
            logits, deltas = predictor(head(self.box_pooler(features, boxes)))
            scores.append(logits if self.average_logits else logits.softmax(dim=1))
            decoded = predictor.decode(deltas, torch.cat(boxes))  # type: ignore[operator]  # (R, 4)
            # The next stage starts here. Boxes clipped to nothing stay, so that the rows of all stages match.
            proposals = [
                replace(p, boxes=clip_boxes(b, p.image_size))
                for p, b in zip(proposals, decoded.split(counts), strict=True)
            ]
        mean = torch.stack(scores).mean(dim=0)  # (R, K + 1)
        return self.select(decoded, mean.softmax(dim=1) if self.average_logits else mean, proposals)

    def mask_probs(self, pooled: Tensor, classes: Tensor) -> Tensor:
        """Probabilities of each box's own class: (R, C, S, S) and (R,) to (R, M, M)."""
        if not isinstance(self.mask_head, nn.ModuleList):
            return super().mask_probs(pooled, classes)
        return torch.stack([head(pooled, classes) for head in self.mask_head]).mean(dim=0)

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Proposals],
        targets: Sequence[Targets],
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """As of any second stage; with a mask head for each, also `loss_mask_stage0` …

        A mask head learns from the foreground of its own stage. What the masks' gradients do to the features
        is divided by the number of stages, as that of the boxes.

        Raises:
            ZooError: a stage's boxes are not finite.
        """
        if not isinstance(self.mask_head, nn.ModuleList):
            return super().losses(features, proposals, targets, generator)
        samples = [self.sampling(p, t, generator) for p, t in zip(proposals, targets, strict=True)]
        losses, of_stages = self._stage_losses(features, samples, targets)
        head: MaskHead
        for stage, (head, samples) in enumerate(zip(self.mask_head, of_stages, strict=True)):  # type: ignore[assignment]
            pooled = self._scaled(self._pool_foreground(features, samples))
            regions = mask_regions(samples)
            losses[f"loss_mask_stage{stage}"] = self._mask_loss(head, pooled, samples, targets, regions)
        return losses

    def box_losses(
        self, features: dict[str, Tensor], samples: list[Samples], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of every stage's boxes, each name followed by `_stage0` …

        Every stage matches the boxes of the last one anew, by its own threshold. The gradient of what is
        pooled is divided by the number of stages: the features learn from the stages' mean, the heads from
        their own loss.

        Source: detectron2, `CascadeROIHeads._forward_box`.
        """
        return self._stage_losses(features, samples, targets)[0]

    def _stage_losses(
        self, features: dict[str, Tensor], samples: list[Samples], targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[list[Samples]]]:
        """The losses of the boxes, and what each stage learned from."""
        losses: dict[str, Tensor] = {}
        of_stages = [samples]
        predictor: BoxPredictor
        count = len(self.box_head)
        for stage, (head, predictor) in enumerate(zip(self.box_head, self.box_predictor, strict=True)):  # type: ignore[assignment]
            pooled = self._scaled(self.box_pooler(features, [s.boxes for s in samples]))
            logits, deltas = predictor(head(pooled))
            stage_losses = predictor.losses(logits, deltas, samples)
            losses |= {f"{name}_stage{stage}": loss for name, loss in stage_losses.items()}
            if stage + 1 < count:
                samples = self._refine(deltas, samples, targets, stage + 1)
                of_stages.append(samples)
        return losses, of_stages

    def _scaled(self, pooled: Tensor) -> Tensor:
        """`pooled` itself, with its gradient divided by the number of stages."""
        scale = 1 / len(self.box_head)
        if pooled.requires_grad:
            pooled.register_hook(lambda grad: grad * scale)
        return pooled

    @torch.no_grad()
    def _refine(
        self, deltas: Tensor, samples: list[Samples], targets: Sequence[Targets], stage: int
    ) -> list[Samples]:
        """The samples of `stage`: the boxes that the stage before it made of its own, matched anew."""
        boxes = torch.cat([s.boxes for s in samples])
        predictor: BoxPredictor = self.box_predictor[stage - 1]  # type: ignore[assignment]
        decoded = predictor.decode(deltas, boxes)
        require_finite(f"the boxes of cascade stage {stage - 1}", decoded)
        refined = []
        for image_boxes, s, t in zip(
            decoded.split([len(s.boxes) for s in samples]), samples, targets, strict=True
        ):
            clipped = clip_boxes(image_boxes, s.image_size)
            clipped = clipped[nonempty(clipped)]
            matched, labels = self.sampling.matchers[stage](t.boxes, clipped)
            refined.append(Samples.label(clipped, matched, labels, t, s.image_size))
        return refined
