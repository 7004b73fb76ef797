"""A detector as other runtimes run it: pictures as they are go in, counted rows come out.

Legend: D detections that there may be, K classes, M mask side, H and W of the padded input.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from resnest_zoo.errors import ExportError
from resnest_zoo.models import GeneralizedRCNN
from resnest_zoo.models.core import DetectorCore
from resnest_zoo.ops.boxes import nonempty

INPUTS = ("images", "image_sizes")


class FileGraph(nn.Module):
    """`DetectorCore` with normalisation before it and, where wanted, pasted masks behind it."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: GeneralizedRCNN, *, half: bool = False, masks_pasted: bool = False) -> None:
        """Wrap a model in evaluation mode, in float32 and on the CPU.

        Args:
            model: stays as it is.
            half: keep the large weights in float16. What is computed stays in float32: float16 tells
                coordinates beyond 1024 pixels apart by whole pixels.
            masks_pasted: add `masks_pasted`.

        Raises:
            ExportError: a weight is too large for float16.
        """
        super().__init__()
        self.core = DetectorCore(_halved_copy(model) if half else model)
        self.masks_pasted = masks_pasted
        preprocessing = model.preprocessing
        self.flipped = preprocessing.channel_order == "BGR"
        self.register_buffer("mean", torch.tensor(preprocessing.pixel_mean)[:, None, None])
        self.register_buffer("std", torch.tensor(preprocessing.pixel_std)[:, None, None])
        self.halved: dict[str, str] = {}
        if half:
            self._keep_halved(model)

    def _keep_halved(self, model: GeneralizedRCNN) -> None:
        for name, value in model.named_parameters():
            if not _is_large(value):
                continue
            rounded = value.detach().half()
            if not torch.equal(rounded.isfinite(), value.isfinite()):
                raise ExportError(
                    f"half: {name} holds {float(value.detach().abs().max()):g}, and float16 ends at 65504; "
                    "export without it"
                )
            self.halved[f"model.{name}"] = f"half_{len(self.halved)}"
            self.register_buffer(f"half_{len(self.halved) - 1}", rounded)

    def forward(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """What is in one picture.

        Args:
            images: (1, 3, H, W) uint8 RGB, the picture in the upper left corner. H and W are multiples of the
                model's `size_divisibility`; what lies outside of the picture does not matter.
            image_sizes: (1, 2) int64, its height and width.

        Returns:
            What `DetectorCore` returns; with `masks_pasted` also `masks_pasted`, (1, D, H, W) bool.
        """
        pixels = images.to(torch.float32)
        pixels = pixels.flip(1) if self.flipped else pixels
        height, width = image_sizes[0].unbind(0)
        inside = (torch.arange(images.shape[2])[:, None] < height) & (torch.arange(images.shape[3]) < width)
        prepared = torch.where(inside, (pixels - self.mean) / self.std, 0.0)  # (1, 3, H, W)
        answer = self._run(prepared, image_sizes)
        if self.masks_pasted:
            masks, boxes, count = (answer[key][0] for key in ("masks", "boxes", "counts"))
            pasted = paste_counted(masks, boxes, count, (images.shape[2], images.shape[3]))
            answer["masks_pasted"] = pasted[None]
        return answer

    def _run(self, prepared: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        if not self.halved:
            answer: dict[str, Tensor] = self.core(prepared, image_sizes)
            return answer
        weights = {name: getattr(self, own).to(torch.float32) for name, own in self.halved.items()}
        found: dict[str, Tensor] = torch.func.functional_call(self.core, weights, (prepared, image_sizes))
        return found


def _is_large(value: Tensor) -> bool:
    """Of layers, whose weights are nearly all of a file; not of norms."""
    return value.dim() > 1


def _halved_copy(model: GeneralizedRCNN) -> GeneralizedRCNN:
    """The same modules with empty places for what is kept in float16."""
    memo: dict[int, Tensor] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty(0)) if _is_large(parameter) else parameter
    memo |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def paste_counted(masks: Tensor, boxes: Tensor, count: Tensor, size: tuple[int, int]) -> Tensor:
    """Stretch each mask over its box and keep the pixels that are at least one half.

    Args:
        masks: (D, M, M) in [0, 1].
        boxes: (D, 4).
        count: () int64, how many of the rows count.
        size: (H, W).

    Returns:
        (D, H, W) bool, as `ops.masks.paste_masks` but for rounding; empty where the box is empty or the row
        does not count. All at once: 4 * D * H * W bytes are in use.
    """
    counts = (torch.arange(len(boxes)) < count) & nonempty(boxes)
    boxes = torch.where(counts[:, None], boxes, boxes.new_tensor([0.0, 0.0, 1.0, 1.0]))
    rows = _interpolation(boxes[:, 1], boxes[:, 3], size[0], masks.shape[1])  # (D, H, M)
    cols = _interpolation(boxes[:, 0], boxes[:, 2], size[1], masks.shape[2])  # (D, W, M)
    values = rows @ masks @ cols.transpose(1, 2)  # (D, H, W)
    return (values >= 0.5) & counts[:, None, None]


def _interpolation(low: Tensor, high: Tensor, pixels: int, side: int) -> Tensor:
    """(D, pixels, side): how much each cell of a mask counts for a pixel; nothing outside of the grid."""
    centres = torch.arange(pixels, dtype=low.dtype) + 0.5
    at = (centres - low[:, None]) / (high - low)[:, None] * side - 0.5  # (D, pixels)
    return (1 - (at[:, :, None] - torch.arange(side, dtype=low.dtype)).abs()).clamp(min=0)
