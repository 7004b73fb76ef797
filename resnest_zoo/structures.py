"""Data that crosses rooms: batches of pictures, proposals, raw detections, and results.

Legend: N images or instances, R proposals, G targets, K classes, M mask side, H and W height and width.
Boxes are float (·, 4) xyxy in absolute pixels; a size is (height, width).
What holds tensors is equal to itself alone (`eq=False`): a comparison of tensors has no single answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, DataError, SelectionError, ShapeError, cut, shown

Array = np.ndarray[Any, Any]
SizeHW = tuple[int, int]
# Of each instance its polygons, each flat: x0, y0, x1, y1, …
Polygons = Sequence[Sequence[Sequence[float]]]
# What `Instances` are indexed by.
Selection = int | slice | Sequence[int] | Sequence[bool] | Array | Tensor
_CLASSES_IN_A_LINE = 8


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

    def __repr__(self) -> str:
        return f"{_counted(len(self.segments), 'segment')}, {_by(self.segment_map.shape)}"

    def to(self, device: torch.device | str) -> PanopticResult:
        """The same with every tensor on `device`."""
        return replace(self, segment_map=self.segment_map.to(device), semantic=self.semantic.to(device))

    def renumbered(self, places: Mapping[int, int]) -> PanopticResult:
        """The same map; a segment of instance i is now one of `places[i]`, or of none where i is missing."""
        segments = (
            s if s.instance is None else replace(s, instance=places.get(s.instance)) for s in self.segments
        )
        return replace(self, segments=tuple(segments))


class InstanceArrays(NamedTuple):
    """The tensors of `Instances` as NumPy arrays.

    Attributes:
        boxes: (N, 4) xyxy, pixels.
        scores: (N,).
        classes: (N,) int64.
        masks: (N, H, W) bool, or None.
    """

    boxes: Array
    scores: Array
    classes: Array
    masks: Array | None

    def __repr__(self) -> str:
        masks = "" if self.masks is None else " with masks"
        return f"arrays of {_counted(len(self.scores), 'instance')}{masks}"


@dataclass(frozen=True, eq=False)
class Instances:
    """Final result for one picture, in that picture's pixels, by falling score.

    `found[0]`, `found[-1]`, `found[:5]`, `found[found.scores > 0.9]` and `found[[3, 0]]` are `Instances`
    too, `for one in found` gives one at a time, and each holds copies. `if found` asks whether there are
    any. A panoptic map stays whole whatever is left out: segments name the instance behind them by its new
    place, or None.

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

    def __repr__(self) -> str:
        """On one line, most frequent class first: "5 instances: 2 star, 2 triangle, 1 ring, 427x640"."""
        names = Counter(self.names).most_common()
        shown_names = [f"{count} {cut(name, 40)}" for name, count in names[:_CLASSES_IN_A_LINE]]
        if rest := names[_CLASSES_IN_A_LINE:]:
            shown_names.append(f"{sum(count for _, count in rest)} of {len(rest)} more classes")
        found = _counted(len(self), "instance") + (": " if names else "") + ", ".join(shown_names)
        segments = "" if self.panoptic is None else f", {_counted(len(self.panoptic.segments), 'segment')}"
        return " ".join(f"{found}, {_by(self.image_size)}{segments}".split())

    def __getitem__(self, selection: Selection) -> Instances:
        """The instances at a place, in a slice, at several places or where a mask is true.

        Args:
            selection: a whole number, a slice, or whole numbers or truth values, (N,), as list, array or
                tensor.

        Raises:
            SelectionError: a place that is not there, a mask of another length, or something else altogether.
        """
        return self._at(_places(selection, len(self)))

    def __iter__(self) -> Iterator[Instances]:
        return (self._at([place]) for place in range(len(self)))

    def _at(self, places: list[int]) -> Instances:
        index = torch.tensor(places, dtype=torch.int64, device=self.scores.device)
        new: dict[int, int] = {}
        for place, old in enumerate(places):
            new.setdefault(old, place)
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            masks=None if self.masks is None else self.masks[index],
            rles=None if self.rles is None else tuple(self.rles[place] for place in places),
            panoptic=None if self.panoptic is None else self.panoptic.renumbered(new),
        )

    def above(self, score_threshold: float) -> Instances:
        """Only the instances whose score is at least `score_threshold`; `self` where these are all."""
        enough = self.scores >= score_threshold
        return self if bool(enough.all()) else self[enough]

    @classmethod
    def cat(cls, parts: Sequence[Instances]) -> Instances:
        """The instances of several results for one picture, part after part.

        A panoptic map is kept where all parts have the same one, as parts of one result do, and left out
        else, since two maps of one picture have no sum.

        Raises:
            ShapeError: there are no parts, or they are for pictures of different sizes.
            DataError: their categories differ, or only some have masks.
        """
        if not parts:
            raise ShapeError("Instances.cat: expected one result or more, got none")
        first = parts[0]
        for part in parts:
            _check_alike(first, part)
        return replace(
            first,
            boxes=torch.cat([part.boxes for part in parts]),
            scores=torch.cat([part.scores for part in parts]),
            classes=torch.cat([part.classes for part in parts]),
            masks=None if first.masks is None else torch.cat([p.masks for p in parts if p.masks is not None]),
            rles=None if first.rles is None else tuple(rle for part in parts for rle in part.rles or ()),
            panoptic=_joined(parts),
        )

    def to(self, device: torch.device | str) -> Instances:
        """The same result with every tensor on `device`.

        Raises:
            ConfigError: there is no such device, or it is a dtype.
        """
        device = _checked_device(device)
        return replace(
            self,
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            classes=self.classes.to(device),
            masks=None if self.masks is None else self.masks.to(device),
            panoptic=None if self.panoptic is None else self.panoptic.to(device),
        )

    def cpu(self) -> Instances:
        """The same result on the CPU."""
        return self.to("cpu")

    def numpy(self) -> InstanceArrays:
        """Boxes, scores, classes and masks as arrays, from whatever device."""
        masks = None if self.masks is None else _array(self.masks)
        return InstanceArrays(_array(self.boxes), _array(self.scores), _array(self.classes), masks)


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _by(size: Sequence[int]) -> str:
    """Height by width."""
    return "x".join(map(str, size))


def _places(selection: object, count: int) -> list[int]:
    """The places that a selection from `count` instances means, none negative."""
    if isinstance(selection, slice):
        return list(range(count))[selection]
    if isinstance(selection, str):
        raise SelectionError(f"there is nothing at {shown(selection)}; fields are attributes, as in .boxes")
    array = _index_array(selection)
    if array.dtype == bool and array.ndim == 1:
        if len(array) != count:
            raise SelectionError(
                f"a mask of {len(array)} for {_counted(count, 'instance')}; expected one for each"
            )
        return [int(place) for place in np.flatnonzero(array)]
    if array.size == 0 and array.ndim == 1:
        return []
    if array.ndim > 1 or array.dtype.kind not in "iu" or _mixes_truth(selection):
        raise SelectionError(
            "expected a whole number, a slice, or a list of whole numbers or of one truth value for each "
            f"instance, got {_described(selection)}"
        )
    places = [int(place) for place in array.reshape(-1)]
    for place in places:
        if not -count <= place < count:
            raise SelectionError(f"there is no instance {place} among {count}")
    return [place % count for place in places]


def _index_array(selection: object) -> Array:
    """What was given as an array, of objects where it is no index."""
    if isinstance(selection, Tensor):
        floats = selection.is_floating_point() or selection.is_complex()
        return np.array(None) if floats else np.asarray(selection.cpu().numpy())
    try:
        return np.asarray(selection)
    except ValueError:  # a list of lists of several lengths
        return np.array(None)


def _mixes_truth(selection: object) -> bool:
    """Whether truth values stand among numbers, which NumPy would take for 0 and 1."""
    return isinstance(selection, list | tuple) and any(
        isinstance(item, bool | np.bool_) for item in selection
    )


def _described(selection: object) -> str:
    if isinstance(selection, Tensor | np.ndarray):
        return f"{selection.dtype} of shape {tuple(selection.shape)}"
    return shown(selection)


def _checked_device(device: object) -> torch.device:
    try:
        return torch.device(device)  # type: ignore[call-overload, no-any-return]
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"to: expected a device, such as 'cpu' or 'cuda:0', got {shown(device)}") from error


def _check_alike(first: Instances, other: Instances) -> None:
    if other.image_size != first.image_size:
        raise ShapeError(
            "Instances.cat: expected results for pictures of one size, "
            f"got {_by(first.image_size)} and {_by(other.image_size)}"
        )
    if other.categories != first.categories:
        raise DataError(
            "Instances.cat: expected results of the same categories, got others: "
            f"{shown(first.categories.things)} and {shown(other.categories.things)}"
        )
    for field in ("masks", "rles"):
        if (getattr(first, field) is None) != (getattr(other, field) is None):
            raise DataError(f"Instances.cat: expected {field} in all results or in none, got some of each")


def _joined(parts: Sequence[Instances]) -> PanopticResult | None:
    """The panoptic result that all parts share, with the instances of all."""
    first = parts[0].panoptic
    if first is None or any(
        p.panoptic is None or p.panoptic.segment_map is not first.segment_map for p in parts
    ):
        return None
    behind: dict[int, int] = {}
    start = 0
    for part in parts:
        assert part.panoptic is not None
        for segment in part.panoptic.segments:
            if segment.instance is not None:
                behind.setdefault(segment.id, start + segment.instance)
        start += len(part)
    return replace(first, segments=tuple(replace(s, instance=behind.get(s.id)) for s in first.segments))
