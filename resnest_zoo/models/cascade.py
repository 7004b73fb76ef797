"""Cascade R-CNN (Cai and Vasconcelos, 2018): three box stages, each refining the boxes of the last.

Legend: R proposals of all images, K classes. Boxes are xyxy in pixels of the padded input.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from resnest_zoo.models.roi_heads import ROIHeads
from resnest_zoo.ops.boxes import decode_boxes
from resnest_zoo.structures import Detections, Proposals


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
