"""Whether a file finds what the model finds.

A detection of the file is that of the model where both have one class, and boxes overlap by `_IOU` or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.errors import ExportError
from resnest_zoo.ops.boxes import pairwise_iou
from resnest_zoo.structures import SizeHW

_SURE = 0.3  # weaker ones are compared only where few are surer
_FEW = 20
_IOU = 0.99
SCORES = 1e-4  # of sigmoid or softmax, float32 in another order of summation
MASKS = 1e-2
SEMANTIC = 1e-3  # of the largest logit
_BLOCKS = 24


@dataclass(frozen=True)
class Difference:
    """What was compared, and how far apart the farthest were.

    Attributes:
        detections: of the model in all pictures: those with a score above 0.3, or nearly its 20 surest.
        boxes: pixels.
        scores: in [0, 1].
        masks: probabilities; 0 where the model has none.
        semantic: logits, relative to the largest; likewise.
    """

    detections: int = 0
    boxes: float = 0.0
    scores: float = 0.0
    masks: float = 0.0
    semantic: float = 0.0

    def and_(self, other: Difference) -> Difference:
        """Of both."""
        return Difference(
            self.detections + other.detections,
            max(self.boxes, other.boxes),
            max(self.scores, other.scores),
            max(self.masks, other.masks),
            max(self.semantic, other.semantic),
        )


def compare(expected: dict[str, Tensor], got: dict[str, Tensor]) -> Difference:
    """Compare the answers to one picture, the model's and the file's.

    Raises:
        ExportError: they differ beyond the tolerances. The message says in what.
    """
    if missing := sorted(set(expected) - set(got)):
        raise ExportError(f"the file lacks the outputs {', '.join(missing)}")
    at, partner = _pairs(expected, got)
    boxes = (expected["boxes"][0, at] - got["boxes"][0, partner]).abs()
    scores = _largest(expected["scores"][0, at] - got["scores"][0, partner])
    masks = semantic = 0.0
    if "masks" in expected:
        masks = _largest(expected["masks"][0, at] - got["masks"][0, partner])
    if "semantic" in expected:
        reference = expected["semantic"]
        semantic = _largest(reference - got["semantic"]) / max(1.0, float(reference.abs().max()))
    # Written so that NaN fails, too.
    for name, value, limit in (
        ("scores", scores, SCORES),
        ("masks", masks, MASKS),
        ("semantic logits", semantic, SEMANTIC),
    ):
        if not value <= limit:
            raise ExportError(f"{name} differ from the model's by {value:.2g}, and {limit:g} is allowed")
    return Difference(len(at), _largest(boxes), scores, masks, semantic)


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0


def _pairs(expected: dict[str, Tensor], got: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of the sure detections of the model, and the rows of the file that are the same.

    Raises:
        ExportError: one side has a detection that the other lacks.
    """
    least = _least_score(expected)
    rows, others = _sure(expected, least), _sure(got, least - SCORES)
    partner = _find(expected, rows, got, others, "the model", "the file")
    _find(got, _sure(got, least + SCORES), expected, _sure(expected, least), "the file", "the model")
    return rows, partner


def _least_score(answer: dict[str, Tensor]) -> float:
    """What is surer is compared. One at the model's own limit may stand on either side of it."""
    scores = answer["scores"][0, : int(answer["counts"][0])]
    surest = scores.sort(descending=True).values[:_FEW]
    return min(_SURE, float(surest[-1])) if len(surest) else _SURE


def _sure(answer: dict[str, Tensor], score: float) -> Tensor:
    count = int(answer["counts"][0])
    return (answer["scores"][0, :count] > score).nonzero().flatten()


def _find(
    of: dict[str, Tensor], rows: Tensor, among: dict[str, Tensor], others: Tensor, name: str, other: str
) -> Tensor:
    """Of each of the `rows` its partner's row among the `others`."""
    overlaps = pairwise_iou(of["boxes"][0, rows], among["boxes"][0, others])  # (R, S)
    same = of["classes"][0, rows][:, None] == among["classes"][0, others].long()[None]
    overlaps = overlaps.masked_fill(~same, -1.0)
    if not len(rows):
        return rows
    best = F.pad(overlaps, (0, 1), value=-1.0).max(dim=1)  # (R,); a blank column lest there be none
    for row, overlap in zip(rows.tolist(), best.values.tolist(), strict=True):
        if not overlap >= _IOU:
            box = [round(side, 1) for side in of["boxes"][0, row].tolist()]
            raise ExportError(
                f"{name} finds class {int(of['classes'][0, row])} at {box} with score "
                f"{float(of['scores'][0, row]):.4f}, and {other} does not"
            )
    return others[best.indices]


def make_picture(size: SizeHW, padded: SizeHW, seed: int) -> tuple[Tensor, Tensor]:
    """Blocks of plain colour on a soft ground, as a picture (1, 3, *padded) uint8, and its size."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(1, 3, 5, 7, generator=generator)
    picture = F.interpolate(coarse, size=size, mode="bilinear", align_corners=True)[0]
    for _ in range(_BLOCKS):
        y, x, h, w = torch.rand(4, generator=generator).tolist()
        top, left = int(y * size[0] * 0.9), int(x * size[1] * 0.9)
        height, width = 2 + int(h * size[0] * 0.3), 2 + int(w * size[1] * 0.3)
        colour = 255 * torch.rand(3, 1, 1, generator=generator)
        picture[:, top : top + height, left : left + width] = colour
    images = torch.zeros((1, 3, *padded), dtype=torch.uint8)
    images[0, :, : size[0], : size[1]] = picture.round().to(torch.uint8)
    return images, torch.tensor([size])
