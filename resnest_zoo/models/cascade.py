"""Cascade R-CNN (Cai and Vasconcelos, 2018): three box stages, each refining the boxes of the last.

Legend: R proposals of all images, K classes. Boxes are xyxy in pixels of the padded input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from resnest_zoo.models.matching import Samples, require_finite
from resnest_zoo.models.roi_heads import BoxPredictor, ROIHeads
from resnest_zoo.ops.boxes import decode_boxes, nonempty
from resnest_zoo.structures import Detections, Proposals, Targets


class CascadeROIHeads(ROIHeads):
    """`box_head` and `box_predictor` are lists, one item for each stage; deltas are class-agnostic."""

    box_head: nn.ModuleList
    box_predictor: nn.ModuleList

    def detect_boxes(self, features: dict[str, Tensor], proposals: list[Proposals]) -> list[Detections]:
        """Boxes of the last stage, scored by the mean of all stages' probabilities."""
        counts = [len(p.boxes) for p in proposals]
        probs = []
        for head, predictor in zip(self.box_head, self.box_predictor, strict=True):
            boxes = [p.boxes for p in proposals]
            logits, deltas = predictor(head(self.box_pooler(features, boxes)))
            probs.append(logits.softmax(dim=1))
            decoded = decode_boxes(deltas, torch.cat(boxes), predictor.box_weights)  # type: ignore[arg-type]  # (R, 4)
            # The next stage starts here. Boxes clipped to nothing stay, so that the rows of all stages match.
            proposals = [
                replace(p, boxes=clip_boxes_to_image(b, p.image_size))
                for p, b in zip(proposals, decoded.split(counts), strict=True)
            ]
        return self.select(decoded, torch.stack(probs).mean(dim=0), proposals)

    def box_losses(
        self, features: dict[str, Tensor], samples: list[Samples], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of every stage, each name followed by `_stage0` …

        Every stage matches the boxes of the last one anew, by its own threshold. The gradient of what is
        pooled is divided by the number of stages: the features learn from the stages' mean, the heads from
        their own loss.

        Source: detectron2, `CascadeROIHeads._forward_box`.
        """
        losses: dict[str, Tensor] = {}
        predictor: BoxPredictor
        count = len(self.box_head)
        scale = 1 / count
        for stage, (head, predictor) in enumerate(zip(self.box_head, self.box_predictor, strict=True)):  # type: ignore[assignment]
            pooled = self.box_pooler(features, [s.boxes for s in samples])
            if pooled.requires_grad:
                pooled.register_hook(lambda grad: grad * scale)
            logits, deltas = predictor(head(pooled))
            stage_losses = predictor.losses(logits, deltas, samples)
            losses |= {f"{name}_stage{stage}": loss for name, loss in stage_losses.items()}
            if stage + 1 < count:
                samples = self._refine(deltas, samples, targets, stage + 1)
        return losses

    @torch.no_grad()
    def _refine(
        self, deltas: Tensor, samples: list[Samples], targets: Sequence[Targets], stage: int
    ) -> list[Samples]:
        """The samples of `stage`: the boxes that the stage before it made of its own, matched anew."""
        boxes = torch.cat([s.boxes for s in samples])
        decoded = decode_boxes(deltas, boxes, self.box_predictor[stage - 1].box_weights)  # type: ignore[arg-type]
        require_finite(f"the boxes of cascade stage {stage - 1}", decoded)
        refined = []
        for image_boxes, s, t in zip(
            decoded.split([len(s.boxes) for s in samples]), samples, targets, strict=True
        ):
            clipped = clip_boxes_to_image(image_boxes, s.image_size)
            clipped = clipped[nonempty(clipped)]
            matched, labels = self.sampling.matchers[stage](t.boxes, clipped)
            refined.append(Samples.label(clipped, matched, labels, t, s.image_size))
        return refined
