"""Test-time augmentation: several scales and mirror images of a picture, merged into one result.

Boxes of all views are merged by one more suppression; masks are the mean over the views, predicted in the
merged boxes.

Source: detectron2, `GeneralizedRCNNWithTTA`. Two of its habits are part of the published numbers and kept:
its evaluation resizes a picture to the model's test size before it makes the views, and views run three at
a time, padded to the largest of the three, which split attention sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from resnest_zoo.config import Augmentation
from resnest_zoo.errors import ConfigError, shown
from resnest_zoo.models.rcnn import GeneralizedRCNN
from resnest_zoo.models.roi_heads import select_detections
from resnest_zoo.ops.resize import resize_image, shortest_edge_size
from resnest_zoo.structures import Detections, ImageBatch, Instances, RawResult, SizeHW

# Any score of a view counts: the views have applied the model's own threshold already.
_MERGE_SCORE_THRESH = 1e-8
_VIEWS_AT_ONCE = 3


@dataclass(frozen=True, eq=False)
class _View:
    """One augmented picture and how boxes travel between it and the original."""

    image: Tensor
    flipped: bool
    original_size: SizeHW

    @property
    def size(self) -> SizeHW:
        return self.image.shape[1], self.image.shape[2]

    def to_original(self, boxes: Tensor) -> Tensor:
        return self._scale(self._flip(boxes), self.size, self.original_size)

    def from_original(self, boxes: Tensor) -> Tensor:
        return self._flip(self._scale(boxes, self.original_size, self.size))

    def _flip(self, boxes: Tensor) -> Tensor:
        if not self.flipped:
            return boxes
        x0, y0, x1, y1 = boxes.unbind(dim=1)
        return torch.stack((self.size[1] - x1, y0, self.size[1] - x0, y1), dim=1)

    @staticmethod
    def _scale(boxes: Tensor, before: SizeHW, after: SizeHW) -> Tensor:
        scale_y, scale_x = after[0] / before[0], after[1] / before[1]
        return boxes * boxes.new_tensor((scale_x, scale_y, scale_x, scale_y))


class TTA:
    """A detector with test-time augmentation; called like the detector itself.

    Panoptic models give boxes and masks; `panoptic` stays None, as the reference merges instances only.
    """

    def __init__(
        self,
        model: GeneralizedRCNN,
        min_sizes: Sequence[int] | None = None,
        max_size: int | None = None,
        flip: bool | None = None,
    ) -> None:
        """Wrap `model`; what is not given comes from `TEST.AUG` of its config.

        Args:
            model: in evaluation mode.
            min_sizes: shorter side of each view, pixels.
            max_size: unless the longer side would pass this.
            flip: add the mirror image of each view.

        Raises:
            ConfigError: `model` is none, or a size is no whole number above 0.
        """
        check_model(model)
        aug = model.config.test.aug if model.config else Augmentation()
        self.model = model
        self.min_sizes = aug.min_sizes if min_sizes is None else tuple(min_sizes)
        self.max_size = aug.max_size if max_size is None else max_size
        self.flip = aug.flip if flip is None else flip
        sizes = (*self.min_sizes, self.max_size)
        if not self.min_sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ConfigError(
                "test-time augmentation: expected whole numbers of pixels above 0, "
                f"got min_sizes {self.min_sizes} and max_size {self.max_size}"
            )

    @torch.no_grad()
    def __call__(self, images: Sequence[Tensor], *, score_threshold: float = 0.0) -> list[Instances]:
        """Detect in RGB uint8 (3, H, W) pictures of any sizes; one result for each, in its pixels.

        Detections below `score_threshold` are left out. Raises what the model itself raises about pictures
        and training mode.
        """
        checked = self.model.accept(images)
        return [self.model.finish(self.run(image), score_threshold) for image in checked]

    @torch.no_grad()
    def run(self, image: Tensor) -> RawResult:
        """What all views of an RGB uint8 picture (3, H, W) say; `GeneralizedRCNN.finish` makes the result."""
        views = self._views(image)
        size = (image.shape[1], image.shape[2])
        merged = self._merge_boxes(views, size)
        if self.model.has_masks:
            merged = replace(merged, mask_probs=self._mean_masks(views, merged))
        return RawResult(merged, size)

    def _views(self, image: Tensor) -> list[_View]:
        size = (image.shape[1], image.shape[2])
        image = self.model.preprocessing.resize(image)
        views = []
        for min_size in self.min_sizes:
            view_size = shortest_edge_size((image.shape[1], image.shape[2]), min_size, self.max_size)
            resized = resize_image(image, view_size)
            views.append(_View(resized, False, size))
            if self.flip:
                views.append(_View(resized.flip(2), True, size))
        return views

    def _batches(self, views: list[_View]) -> Iterator[tuple[list[_View], dict[str, Tensor], ImageBatch]]:
        """The views in order, a few at a time, with their features."""
        like = next(self.model.parameters())
        for start in range(0, len(views), _VIEWS_AT_ONCE):
            few = views[start : start + _VIEWS_AT_ONCE]
            batch = self.model.preprocessing.batch([view.image for view in few], like)
            yield few, self.model.backbone(batch.tensor), batch

    def _merge_boxes(self, views: list[_View], size: SizeHW) -> Detections:
        boxes, scores, classes = [], [], []
        for few, features, batch in self._batches(views):
            for view, found in zip(
                few, self.model.detect(features, batch.image_sizes, masks=False), strict=True
            ):
                boxes.append(view.to_original(found.boxes))
                scores.append(found.scores)
                classes.append(found.classes)
        all_scores, all_classes = torch.cat(scores), torch.cat(classes)
        num_classes = len(self.model.categories.things)
        table = all_scores.new_zeros((len(all_scores), num_classes + 1))
        table[torch.arange(len(table)), all_classes] = all_scores
        limits = replace(self.model.roi_heads.limits, score_thresh=_MERGE_SCORE_THRESH)
        return select_detections(torch.cat(boxes), table, size, limits)

    def _mean_masks(self, views: list[_View], merged: Detections) -> Tensor:
        """(N, M, M), mirror images turned back."""
        probs = []
        for few, features, _ in self._batches(views):
            inside = [
                replace(merged, boxes=view.from_original(merged.boxes), image_size=view.size) for view in few
            ]
            for view, masked in zip(few, self.model.roi_heads.add_masks(features, inside), strict=True):
                assert masked.mask_probs is not None
                probs.append(masked.mask_probs.flip(2) if view.flipped else masked.mask_probs)
        return torch.stack(probs).mean(dim=0)


def check_model(model: object) -> None:
    """Refuse what cannot detect; a model wrapped by `torch.compile` passes.

    Raises:
        ConfigError: it is no model, or one on the device "meta", which has no values.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"expected a model, got {shown(model)}; resnest_zoo.get builds one from its name")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ConfigError('a model on the device "meta" has no values; expected one on cpu, cuda or another')
