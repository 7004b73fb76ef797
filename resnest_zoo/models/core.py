"""A detector's arithmetic as tensors in, tensors out: what graphs can hold.

Pictures are prepared before it; pasting, run lengths and the panoptic merge come behind it. The front in
`rcnn.py` runs the same steps, without the rows that mean nothing.

Legend: N images, D detections that there may be, K classes, M mask side, H and W of the padded input.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from resnest_zoo.models.rcnn import GeneralizedRCNN, PanopticFPN
from resnest_zoo.structures import SizeHW


class DetectorCore(nn.Module):
    """The steps from prepared pictures to detections, of a model in evaluation mode."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """What the network says about pictures of one padded size; shapes depend on nothing else.

        Args:
            images: (N, 3, H, W), as `Preprocessing.batch` makes them.
            image_sizes: (N, 2) int64, height and width of each picture, padding excluded.

        Returns:
            By falling score and in pixels of the input: `boxes` (N, D, 4), `scores` (N, D), `classes` (N, D)
            int64, `counts` (N,) int64, how many of the D rows count; with a mask head `masks` (N, D, M, M),
            probabilities inside the boxes; of panoptic models `semantic`, logits (N, K, H, W).

        Raises:
            NonFiniteError: what a deformable convolution would sample by is not finite; not in a graph.
        """
        features = self.model.backbone(images)
        # Two scalars each, as in the front; only a graph can take them as they are.
        sizes = cast("tuple[SizeHW, ...]", tuple(size.unbind(0) for size in image_sizes.unbind(0)))
        found = self.model.detect(features, sizes, counted=True)
        answer = {
            "boxes": torch.stack([d.boxes for d in found]),
            "scores": torch.stack([d.scores for d in found]),
            "classes": torch.stack([d.classes for d in found]),
            "counts": torch.stack([d.count for d in found if d.count is not None]),
        }
        masks = [d.mask_probs for d in found if d.mask_probs is not None]
        if masks:
            answer["masks"] = torch.stack(masks)
        if isinstance(self.model, PanopticFPN):
            answer["semantic"] = self.model.sem_seg_head(features)
        return answer
