"""The detectors as users call them: pictures in, results in the pictures' own pixels out.

Faster, Mask and Cascade R-CNN are `GeneralizedRCNN` with other heads; `PanopticFPN` adds a semantic head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from resnest_zoo.categories import Categories
from resnest_zoo.config import Config
from resnest_zoo.errors import ShapeError, ZooError
from resnest_zoo.models.fpn import FPN
from resnest_zoo.models.panoptic import MergeLimits, merge_panoptic
from resnest_zoo.models.postprocess import rescale_detections, rescale_semantic
from resnest_zoo.models.preprocess import Preprocessing, check_image
from resnest_zoo.models.resnest import pooled_norms
from resnest_zoo.models.roi_heads import ROIHeads
from resnest_zoo.models.rpn import RPN
from resnest_zoo.models.semantic import SemSegFPNHead
from resnest_zoo.models.targets import prepare_targets, read_targets, stack_semantic
from resnest_zoo.structures import Detections, ImageBatch, Instances, RawResult, SizeHW, Targets


class GeneralizedRCNN(nn.Module):
    """A two-stage detector.

    Attributes:
        categories: names and ids of the classes.
        preprocessing: what happens to a picture before the backbone.
        config: what the model was built from; None for one put together by hand.
        fresh_layers: class layers that a checkpoint of other classes has left to their random values.
    """

    config: Config | None = None
    fresh_layers: tuple[str, ...] = ()
    instance_loss_weight = 1.0  # of the second stage's losses

    def __init__(
        self,
        backbone: FPN,
        proposal_generator: RPN,
        roi_heads: ROIHeads,
        preprocessing: Preprocessing,
        categories: Categories,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.preprocessing = preprocessing
        self.categories = categories

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and the results will be."""
        return self._parameter.device

    @property
    def has_masks(self) -> bool:
        """Whether it predicts the masks of what it finds."""
        return self.roi_heads.mask_head is not None

    @property
    def class_layers(self) -> tuple[str, ...]:
        """Names of the layers whose shapes depend on the numbers of classes, things and stuff."""
        return tuple(
            f"{name}.{layer}"
            for name, module in self.named_modules()
            if module is not self
            for layer in getattr(module, "class_layers", ())
        )

    def changed_classes(
        self, of: Categories, *, rename: bool
    ) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """The class layers whose rows have other places or meanings than in a model of the classes `of`.

        Args:
            of: of a file, say.
            rename: whether names of which some are new are new names for the same classes in their order.

        Returns:
            Of each such layer the names in `of` and in this model, which are as many.
        """
        own, found = self.categories, {}
        if own.are_placeholders or of.are_placeholders:
            return {}
        for layer in self.class_layers:
            stuff = layer.startswith("sem_seg_head.")
            before, after = (of.stuff, own.stuff) if stuff else (of.things, own.things)
            renamed = rename and sorted(before) != sorted(after)
            if before != after and len(before) == len(after) and not renamed:
                found[layer] = (before, after)
        return found

    @property
    def _parameter(self) -> Tensor:
        return next(self.parameters())

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Targets | Mapping[str, Any]] | None = None,
        *,
        output_sizes: Sequence[SizeHW] | None = None,
        score_threshold: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[Instances] | dict[str, Tensor]:
        """Detect objects; in training mode, given targets, compute the losses of one step.

        Pictures that are padded to the same size run together. Beyond rounding, a picture's result never
        depends on what else is in the list. In training, pictures are augmented and resized already, and
        all are padded to one size.

        Args:
            images: RGB uint8 (3, H, W), any sizes and any device.
            targets: of each picture, in its pixels; in training mode only. Also torchvision's dicts, whose
                labels are category ids; see `models.targets.read_targets`.
            output_sizes: (height, width) of each result; a picture's own size by default.
            score_threshold: leave weaker detections out, as `Instances.above` does, but before their masks
                take the memory of H * W bytes each.
            generator: of the random choices of training.

        Returns:
            One result for each picture, in its pixels and on the model's device; in training mode what
            `losses` returns.

        Raises:
            ImageError: a picture is not an RGB uint8 tensor (3, H, W).
            ShapeError: pictures and `output_sizes` or `targets` differ in number; a training step has one
                picture where batch norms of split attention learn; what `losses` raises.
            NonFiniteError: what a deformable convolution would sample by is not finite; what `losses` raises.
            ZooError: training mode without targets or the other way round; what else `losses` raises.
        """
        if targets is None:
            return self._results(images, output_sizes, score_threshold)
        if not self.training:
            raise ZooError(
                "targets are for training, and the model is in evaluation mode; call model.train()"
            )
        if not (checked := _check_images(images)):
            raise ShapeError("a training step needs at least one image, got none")
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        if len(checked) == 1 and not together:  # norms may see the images of all processes
            self._check_lone_image()
        return self.losses(self.preprocessing.batch(checked, self._parameter), targets, generator)

    def _check_lone_image(self) -> None:
        """Refuse what PyTorch would refuse in words that nobody can act upon."""
        if any(norm.training for norm in pooled_norms(self)):
            raise ShapeError(
                "a training step needs two images or more, got 1: split attention has one value of each "
                "image and channel for its batch norms; or build with MODEL.RESNETS.NORM FrozenBN"
            )

    def losses(
        self,
        batch: ImageBatch,
        targets: Sequence[Targets | Mapping[str, Any]],
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The losses of one training step; their sum is what training minimises.

        Args:
            batch: prepared pictures.
            targets: of each picture, ours or torchvision's dicts.
            generator: of the random choices of anchors and proposals; PyTorch's own by default.

        Returns:
            Scalars by detectron2's names: `loss_rpn_cls`, `loss_rpn_loc`, `loss_cls` and `loss_box_reg`,
            the last two with `_stage0` … for each stage of a cascade, and `loss_mask` and `loss_sem_seg`
            where the model has such a head. Every loss has a gradient, also where it is 0.

        Raises:
            ShapeError: pictures and targets differ in number, or a target's shape or dtype is wrong.
            DataError: a target's value is wrong, or a part of it is missing.
            NonFiniteError: offsets or proposals are not finite any more.
        """
        read = read_targets(targets, self.categories)
        return self._losses(self.backbone(batch.tensor), batch, read, generator)

    def _losses(
        self,
        features: dict[str, Tensor],
        batch: ImageBatch,
        targets: Sequence[Targets],
        generator: torch.Generator | None,
    ) -> dict[str, Tensor]:
        masks = self.has_masks
        targets = prepare_targets(targets, batch, len(self.categories.things), masks)
        losses, proposals = self.proposal_generator.losses(features, batch.image_sizes, targets, generator)
        instance_losses = self.roi_heads.losses(features, proposals, targets, generator)
        return losses | {k: loss * self.instance_loss_weight for k, loss in instance_losses.items()}

    @torch.no_grad()  # `inference_mode` would give tensors that no caller may edit or differentiate
    def _results(
        self, images: Sequence[Tensor], output_sizes: Sequence[SizeHW] | None, score_threshold: float
    ) -> list[Instances]:
        checked = self.accept(images)
        sizes = [(i.shape[1], i.shape[2]) for i in checked] if output_sizes is None else list(output_sizes)
        if len(sizes) != len(checked):
            raise ShapeError(f"{len(checked)} images but {len(sizes)} output sizes")
        resized = [self.preprocessing.resize(image) for image in checked]
        results: dict[int, Instances] = {}
        for group in self._groups_of_one_size(resized):
            batch = self.preprocessing.batch([resized[i] for i in group], self._parameter)
            group_results = self.infer(batch, [sizes[i] for i in group], score_threshold)
            results.update(zip(group, group_results, strict=True))
        return [results[i] for i in range(len(checked))]

    def accept(self, images: Sequence[Tensor]) -> list[Tensor]:
        """The pictures of one call, checked. Raises what `forward` raises about them and about the mode."""
        if self.training:
            raise ZooError(
                "the model is in training mode, where batch norms see the batch; call model.eval() to "
                "detect, or model(images, targets) for a training step"
            )
        return _check_images(images)

    def _groups_of_one_size(self, images: list[Tensor]) -> list[list[int]]:
        """Indices of the pictures that are padded to the same size.

        Split attention averages over the padding, so padding further for a neighbour's sake would change
        a picture's result.
        """
        groups: dict[SizeHW, list[int]] = {}
        for index, image in enumerate(images):
            size = (image.shape[1], image.shape[2])
            groups.setdefault(self.preprocessing.padded_size(size), []).append(index)
        return list(groups.values())

    def infer(self, batch: ImageBatch, sizes: list[SizeHW], score_threshold: float = 0.0) -> list[Instances]:
        """The forward pass on a prepared batch; results at `sizes`."""
        return [self.finish(raw, score_threshold) for raw in self.run(batch, sizes)]

    def run(self, batch: ImageBatch, sizes: list[SizeHW]) -> list[RawResult]:
        """The first half of `infer`: all that the network computes."""
        detections = self.detect(self.backbone(batch.tensor), batch.image_sizes)
        return [RawResult(d, size) for d, size in zip(detections, sizes, strict=True)]

    def finish(self, raw: RawResult, score_threshold: float = 0.0, *, encoded: bool = False) -> Instances:
        """The second half: bring the detections of at least `score_threshold` to the picture's pixels.

        With `encoded`, masks come as run lengths.
        """
        return rescale_detections(raw.detections, raw.size, self.categories, score_threshold, encoded=encoded)

    def detect(
        self,
        features: dict[str, Tensor],
        image_sizes: tuple[SizeHW, ...],
        *,
        masks: bool = True,
        counted: bool = False,
    ) -> list[Detections]:
        """Propose, classify, refine, and predict `masks`; in pixels of the model's input.

        With `counted`, every picture has as many rows as there may be, and a count.
        """
        proposals = self.proposal_generator(features, image_sizes, counted=counted)
        detections = self.roi_heads.detect_boxes(features, proposals)
        return self.roi_heads.add_masks(features, detections) if masks else detections


def _check_images(images: Sequence[Tensor]) -> list[Tensor]:
    if isinstance(images, Tensor) and images.dim() == 3:
        raise ShapeError("expected a list of pictures, got one tensor (3, H, W); pass [image]")
    return [check_image(image, i) for i, image in enumerate(images)]


@dataclass(frozen=True)
class SemanticBranch:
    """What panoptic FPN adds to a detector.

    Attributes:
        head: the semantic head.
        limits: of the merge.
        ignore_value: the semantic class that no loss counts.
        loss_weight: factor of `loss_sem_seg`.
        instance_loss_weight: factor of the losses of the second stage.
    """

    head: SemSegFPNHead
    limits: MergeLimits
    ignore_value: int = 255
    loss_weight: float = 1.0
    instance_loss_weight: float = 1.0


class PanopticFPN(GeneralizedRCNN):
    """A detector with a semantic head; results carry a `panoptic` part."""

    def __init__(
        self,
        backbone: FPN,
        proposal_generator: RPN,
        roi_heads: ROIHeads,
        preprocessing: Preprocessing,
        categories: Categories,
        semantic: SemanticBranch,
    ) -> None:
        super().__init__(backbone, proposal_generator, roi_heads, preprocessing, categories)
        self.sem_seg_head = semantic.head
        self.merge_limits = semantic.limits
        self.ignore_value = semantic.ignore_value
        self.semantic_loss_weight = semantic.loss_weight
        self.instance_loss_weight = semantic.instance_loss_weight

    def run(self, batch: ImageBatch, sizes: list[SizeHW]) -> list[RawResult]:
        """The first half of `infer`: all that the network computes."""
        features = self.backbone(batch.tensor)
        detections = self.detect(features, batch.image_sizes)
        return [
            RawResult(found, size, rescale_semantic(logits, found.image_size, size))
            for logits, found, size in zip(self.sem_seg_head(features), detections, sizes, strict=True)
        ]

    def finish(self, raw: RawResult, score_threshold: float = 0.0, *, encoded: bool = False) -> Instances:
        """The second half: detections in the picture's pixels and, where there are semantics, the map."""
        if raw.semantic is None:
            return super().finish(raw, score_threshold, encoded=encoded)
        # What the map needs is kept until it is made, so that it never depends on the threshold.
        sure = self.merge_limits.instance_score
        needed = min(score_threshold, sure)
        whole = super().finish(raw, sure if encoded else needed)
        panoptic = merge_panoptic(whole, raw.semantic, self.merge_limits)
        found = super().finish(raw, needed, encoded=True) if encoded else whole
        return replace(found, panoptic=panoptic).above(score_threshold)

    def _losses(
        self,
        features: dict[str, Tensor],
        batch: ImageBatch,
        targets: Sequence[Targets],
        generator: torch.Generator | None,
    ) -> dict[str, Tensor]:
        # First, as in the reference: the gradients of the shared features are then summed in the same order.
        classes = stack_semantic(targets, batch, len(self.categories.stuff), self.ignore_value)
        loss = self.sem_seg_head.loss(features, classes, self.ignore_value)
        losses = super()._losses(features, batch, targets, generator)
        return losses | {"loss_sem_seg": loss * self.semantic_loss_weight}
