"""From raw detections to results in a picture's own pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.ops.boxes import clip_boxes, nonempty
from resnest_zoo.ops.masks import paste_masks
from resnest_zoo.ops.rle import encode_pasted_masks
from resnest_zoo.structures import Detections, Instances, SizeHW


def rescale_detections(
    detections: Detections,
    size: SizeHW,
    categories: Categories,
    score_threshold: float = 0.0,
    *,
    encoded: bool = False,
) -> Instances:
    """Scale boxes from the model's input to a picture of `size`, drop empty and weak ones, paste the masks.

    The threshold acts here because a pasted mask takes H * W bytes of the picture; `encoded` gives run
    lengths instead, without ever pasting them.

    Source: detectron2, `detector_postprocess`.
    """
    scale_y, scale_x = size[0] / detections.image_size[0], size[1] / detections.image_size[1]
    boxes = detections.boxes * detections.boxes.new_tensor((scale_x, scale_y, scale_x, scale_y))
    boxes = clip_boxes(boxes, size)
    keep = nonempty(boxes) & (detections.scores >= score_threshold)
    boxes = boxes[keep]
    probs = None if detections.mask_probs is None else detections.mask_probs[keep]
    return Instances(
        boxes=boxes,
        scores=detections.scores[keep],
        classes=detections.classes[keep],
        image_size=size,
        categories=categories,
        masks=None if probs is None or encoded else paste_masks(probs, boxes, size),
        rles=tuple(encode_pasted_masks(probs, boxes, size)) if probs is not None and encoded else None,
    )


def rescale_semantic(logits: Tensor, image_size: SizeHW, size: SizeHW) -> Tensor:
    """Cut the padding off, interpolate to `size`, take the likeliest class.

    Args:
        logits: (K, H, W) over the padded input.
        image_size: of the input, padding excluded.
        size: of the picture.

    Returns:
        Its (height, width) int64 classes; the first of equally likely ones.
    """
    planes = logits[:, None, None, : image_size[0], : image_size[1]]  # (K, 1, 1, h, w)
    best = logits.new_full(size, -torch.inf)
    classes = torch.zeros_like(best, dtype=torch.int64)
    # Class after class: all of COCO's 54 at the size of a photo of 12 MP would take 2.6 GB.
    for index, plane in enumerate(planes):
        values = F.interpolate(plane, size=size, mode="bilinear", align_corners=False)[0, 0]  # (H, W)
        classes.masked_fill_(values > best, index)
        best = torch.maximum(best, values)
    return classes
