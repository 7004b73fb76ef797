"""One training step of a golden file `NAME.losses.npz`: what it is given and what is compared.

    sizes, seed         the pictures: `image(*sizes[k], seed + k)`, in the model's channel order
    loss/NAME           each loss, by detectron2's names
    grad/KEY            L2 norm of the gradient of the losses' sum by each parameter that trains

Norms see the batch, the stem and res2 stay frozen, and the samples are large enough to take every anchor and
every proposal, so that nothing is random (`OPTS`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.structures import Targets

OPTS = (
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "20000", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "2000"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "200"),
)
# Corners of the instances of each picture, as parts of its width and height.
_TRIANGLES = (
    (0.1, 0.1, 0.5, 0.15, 0.3, 0.6),
    (0.4, 0.3, 0.95, 0.35, 0.6, 0.9),
    (0.05, 0.6, 0.3, 0.55, 0.2, 0.95),
)
_CLASSES = (1, 17, 42)


def targets(size: tuple[int, int], index: int) -> Targets:
    """The targets of picture `index`: three triangles, and semantic blocks under an ignored strip."""
    height, width = size
    corners = np.array(_TRIANGLES).reshape(-1, 3, 2) * (width, height)  # (triangle, corner, xy)
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    semantic = ((y // 32) * 7 + (x // 32) * 3) % 54
    semantic[: height // 8] = 255
    polygons = [[triangle.ravel().tolist()] for triangle in corners]
    classes = torch.tensor([k + index for k in _CLASSES])
    return Targets(torch.from_numpy(boxes), classes, polygons, semantic)


def run(model: GeneralizedRCNN, pictures: list[Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Losses and gradient norms of one step on RGB pictures, under the keys of the file."""
    sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
    losses = model.train()(pictures, [targets(size, k) for k, size in enumerate(sizes)])
    sum(losses.values()).backward()
    got = {f"loss/{name}": loss.detach() for name, loss in losses.items()}
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            got[f"grad/{key}"] = parameter.grad.norm()
    return {key: value.double().cpu().numpy() for key, value in got.items()}
