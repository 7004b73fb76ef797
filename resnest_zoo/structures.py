"""Data that crosses rooms: batches of pictures, proposals, raw detections, and results.

Legend: N images or instances, R proposals, G targets, K classes, M mask side, H and W height and width.
Boxes are float (·, 4) xyxy in absolute pixels; a size is (height, width).
What holds tensors is equal to itself alone (`eq=False`): a comparison of tensors has no single answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from resnest_zoo.categories import Categories

SizeHW = tuple[int, int]
# Of each instance its polygons, each flat: x0, y0, x1, y1, …
Polygons = Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Normalised pictures, zero-padded on the right and bottom to one size.

    Attributes:
        tensor: (N, 3, H, W), float, in the model's channel order.
        image_sizes: the part of each picture that is not padding.
    """

    tensor: Tensor
    image_sizes: tuple[SizeHW, ...]


@dataclass(frozen=True, eq=False)
class Targets:
    """What a training step should find in one picture, in pixels of the model's input.

    Attributes:
        boxes: (G, 4), none of them empty.
        classes: (G,) int64 in 0 … K-1.
        masks: for models with a mask head: each instance's polygons, or (G, H, W) bool.
        semantic: for panoptic models: (H, W) int64, each pixel's semantic class or the value to ignore.
    """

    boxes: Tensor
    classes: Tensor
    masks: Polygons | Tensor | None = None
    semantic: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Targets:
        """The same targets with every tensor on `device`; polygons are no tensors."""
        return replace(
            self,
            boxes=self.boxes.to(device),
            classes=self.classes.to(device),
            masks=self.masks.to(device) if isinstance(self.masks, Tensor) else self.masks,
            semantic=None if self.semantic is None else self.semantic.to(device),
        )


@dataclass(frozen=True, eq=False)
class Proposals:
    """Class-agnostic boxes of one picture, by falling objectness.

    Attributes:
        boxes: (R, 4), pixels of the model's input, inside `image_size`.
        objectness_logits: (R,).
        image_size: of the model's input, padding excluded.
        count: () int64, how many rows are proposals, those behind them being zeros; None: all are.
    """

    boxes: Tensor
    objectness_logits: Tensor
    image_size: SizeHW
    count: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """What the heads found in one picture, in pixels of the model's input, by falling score.

    Attributes:
        boxes: (N, 4), inside `image_size`.
        scores: (N,) in [0, 1].
        classes: (N,) int64 in 0 … K-1.
        image_size: of the model's input, padding excluded.
        mask_probs: (N, M, M) in [0, 1], each stretched over its box; None for models without masks.
        count: () int64, how many rows are detections, those behind them meaning nothing; None: all are.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    image_size: SizeHW
    mask_probs: Tensor | None = None
    count: Tensor | None = None


@dataclass(frozen=True, eq=False)
class RawResult:
    """All the network has to say about one picture, small enough to move to another device.

    Attributes:
        detections: in pixels of the model's input.
        size: of the picture the result is for.
        semantic: (H, W) int64 at `size`, the likeliest semantic class of each pixel; for panoptic models.
    """

    detections: Detections
    size: SizeHW
    semantic: Tensor | None = None

    def to(self, device: torch.device | str) -> RawResult:
        """The same with every tensor on `device`."""
        found, probs = self.detections, self.detections.mask_probs
        moved = replace(
            found,
            boxes=found.boxes.to(device),
            scores=found.scores.to(device),
            classes=found.classes.to(device),
            mask_probs=None if probs is None else probs.to(device),
        )
        semantic = None if self.semantic is None else self.semantic.to(device)
        return replace(self, detections=moved, semantic=semantic)


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic segment map.

    Attributes:
        id: its value in the segment map, from 1.
        is_thing: whether `class_index` counts in `Categories.things` or in `Categories.stuff`.
        class_index: contiguous class.
        area: pixels.
        score: of the instance behind a thing; None for stuff.
        instance: that instance's index in `Instances`; None for stuff, and where it was filtered out.
    """

    id: int
    is_thing: bool
    class_index: int
    area: int
    score: float | None = None
    instance: int | None = None


@dataclass(frozen=True, eq=False)
class PanopticResult:
    """Every pixel's segment.

    Attributes:
        segment_map: (H, W) int32, a segment's id or 0 where nothing was decided.
        segments: in the order of their ids.
        semantic: (H, W) int64, the most likely semantic class of each pixel before merging.
    """

    segment_map: Tensor
    segments: tuple[Segment, ...]
    semantic: Tensor


@dataclass(frozen=True, eq=False)
class Instances:
    """Final result for one picture, in that picture's pixels, by falling score.

    Attributes:
        boxes: (N, 4), inside `image_size`.
        scores: (N,) in [0, 1].
        classes: (N,) int64 in 0 … K-1; `categories.things[k]` names class k.
        image_size: of the picture.
        categories: names and category ids.
        masks: (N, H, W) bool, for models with a mask head.
        panoptic: for panoptic models.
        rles: in place of `masks` where that was asked for, each in COCO's run-length encoding.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    image_size: SizeHW
    categories: Categories
    masks: Tensor | None = None
    panoptic: PanopticResult | None = None
    rles: tuple[Mapping[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The class name of each instance."""
        return [self.categories.things[k] for k in self.classes.tolist()]

    def above(self, score_threshold: float) -> Instances:
        """Only the instances whose score is at least `score_threshold`; `self` where these are all.

        The panoptic map stays whole; a segment whose instance is left out no longer names it.
        """
        count = int((self.scores >= score_threshold).sum())  # scores fall, so these come first
        if count == len(self):
            return self
        panoptic = self.panoptic
        if panoptic is not None:
            segments = (
                replace(s, instance=None) if s.instance is not None and s.instance >= count else s
                for s in panoptic.segments
            )
            panoptic = replace(panoptic, segments=tuple(segments))
        return replace(  # clones, since a view would keep the memory of all masks
            self,
            boxes=self.boxes[:count].clone(),
            scores=self.scores[:count].clone(),
            classes=self.classes[:count].clone(),
            masks=None if self.masks is None else self.masks[:count].clone(),
            rles=None if self.rles is None else self.rles[:count],
            panoptic=panoptic,
        )

    def to(self, device: torch.device | str) -> Instances:
        """The same result with every tensor on `device`."""
        panoptic = self.panoptic
        if panoptic is not None:
            panoptic = replace(
                panoptic,
                segment_map=panoptic.segment_map.to(device),
                semantic=panoptic.semantic.to(device),
            )
        return replace(
            self,
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            classes=self.classes.to(device),
            masks=None if self.masks is None else self.masks.to(device),
            panoptic=panoptic,
        )
