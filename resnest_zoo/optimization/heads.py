"""The heads: RPN, box head and mask head, and the pooling before them.

Legend: N images, R boxes of all images, C channels, S pooled side, A anchors at one cell, K classes,
M = 2 * S.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resnest_zoo.models.mask_head import MaskHead
from resnest_zoo.models.roi_heads import BoxHead, ROIPooler
from resnest_zoo.models.rpn import RPNHead
from resnest_zoo.ops.convolution import conv3x3_stack
from resnest_zoo.ops.operators import in_graph
from resnest_zoo.ops.sampling import roi_align
from resnest_zoo.optimization.backbone import are_optimized
from resnest_zoo.optimization.layers import Layer, Optimized, objection_to, to_channels_last

# That are pooled, and go through a box head, together: what lies between takes 13 MB.
_BOXES_AT_ONCE = 256
# Of what the mask head's upsampling makes at a time: 4 MB.
_NUMBERS_AT_ONCE = 1_000_000


class OptimizedRPNHead(Optimized, RPNHead):
    """Objectness and deltas as one matrix product."""

    def prepare(self) -> tuple[Tensor, Tensor]:
        """Weights and biases of both predictors together."""
        layers = (self.objectness_logits, self.anchor_deltas)
        weight = torch.cat([layer.weight.detach().flatten(1) for layer in layers])  # (5 * A, C)
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        return weight, torch.cat(biases)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """One level's (N, C, H, W) to logits (N, H * W * A) and deltas (N, H * W * A, 4)."""
        parts = (self.conv, self.objectness_logits, self.anchor_deltas)
        if not (self.can_run(feature) and are_optimized(*parts)):
            return super().forward(feature)
        x = self.conv.run(to_channels_last(feature), relu=True)  # type: ignore[operator]
        answers = F.linear(x.permute(0, 2, 3, 1).flatten(1, 2), *self.prepared())  # (N, H * W, 5 * A)
        anchors = self.objectness_logits.out_channels
        return answers[..., :anchors].flatten(1), answers[..., anchors:].reshape(len(x), -1, 4)


class OptimizedPooler(ROIPooler):
    """ROIAlign by the fastest implementation, channels last."""

    def __call__(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Pool the boxes of each image, (R_i, 4), to (R, C, S, S) in the same order."""
        levels = [features[name] for name in self.in_features]
        if in_graph() or any(map(objection_to, (*levels, *boxes))):
            return super().__call__(features, boxes)
        boxes = [b.nan_to_num(0.0, 0.0, 0.0) for b in boxes]
        rois = torch.cat([F.pad(b, (1, 0), value=float(i)) for i, b in enumerate(boxes)])  # (R, 5)
        assigned = self._assign_levels(torch.cat(boxes))
        size = self.output_size
        pooled = levels[0].new_empty((len(rois), size, size, levels[0].shape[1]))
        for index, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            rows = (assigned == index).nonzero().flatten()
            for some in rows.split(_BOXES_AT_ONCE):
                if len(some):
                    part = roi_align(
                        level, rois[some], size, 1.0 / stride, self.sampling_ratio, implementation=None
                    )
                    pooled.index_copy_(0, some, part.permute(0, 2, 3, 1))
        return pooled.permute(0, 3, 1, 2)


def run_stack(layers: list[Layer], x: Tensor) -> Tensor:
    """Convolutions one after another, each with its norm and ReLU."""
    if layers and all(layer.norm is None for layer in layers):
        return conv3x3_stack(x, [layer.conv for layer in layers])
    for layer in layers:
        x = layer(x, relu=True)
    return x


class OptimizedBoxHead(Optimized, BoxHead):
    """The convolutions together, then the fully connected layers."""

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, S, S) to (R, `out_features`)."""
        convs = [self.get_submodule(f"conv{k}") for k in range(1, self.num_convs + 1)]
        if not (self.can_run(x) and are_optimized(*convs)):
            return super().forward(x)
        layers = [conv.prepared() for conv in convs]  # type: ignore[operator]
        out = x.new_empty((len(x), self.out_features))
        for few, result in zip(x.split(_BOXES_AT_ONCE), out.split(_BOXES_AT_ONCE), strict=True):
            y = run_stack(layers, to_channels_last(few)).flatten(1)  # (r, C * S * S)
            for k in range(1, self.num_fcs + 1):
                y = self.get_submodule(f"fc{k}")(y).relu_()
            result.copy_(y)
        return out


@dataclass(frozen=True)
class _MaskOutput:
    """The last two layers of a mask head.

    Attributes:
        upsampling: (4 * C', C), of each of the four pixels that one becomes.
        upsampling_bias: (4 * C',).
        classes: (K or 1, C').
        class_bias: (K or 1,).
    """

    upsampling: Tensor
    upsampling_bias: Tensor
    classes: Tensor
    class_bias: Tensor


class OptimizedMaskHead(Optimized, MaskHead):
    """Only the mask of each box's own class is computed."""

    def prepare(self) -> _MaskOutput:
        """Weights of the last two layers as matrices."""
        weight = self.deconv.weight.detach()  # (C, C', 2, 2)
        assert self.deconv.bias is not None
        assert self.predictor.bias is not None
        return _MaskOutput(
            weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(),
            self.deconv.bias.detach().repeat(4),
            self.predictor.weight.detach().flatten(1),
            self.predictor.bias.detach(),
        )

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """Probabilities of each box's own class: (R, C, S, S) and (R,) to (R, M, M)."""
        convs = [self.get_submodule(f"mask_fcn{k}") for k in range(1, self.num_convs + 1)]
        if not (self.can_run(x) and are_optimized(*convs, self.predictor)):
            return super().forward(x, classes)
        x = run_stack([conv.prepared() for conv in convs], to_channels_last(x))  # type: ignore[operator]
        made: _MaskOutput = self.prepared()
        at = torch.zeros_like(classes) if self.class_agnostic else classes
        side, (boxes, channels) = x.shape[2], x.shape[:2]
        pixels = x.permute(0, 2, 3, 1).reshape(boxes, side * side, channels)
        logits = x.new_empty((boxes, side * side * 4))
        step = max(1, _NUMBERS_AT_ONCE // (4 * side * side * channels))
        for start in range(0, boxes, step):
            some = slice(start, start + step)
            upsampled = F.linear(pixels[some], made.upsampling, made.upsampling_bias).relu_()
            by_pixel = upsampled.view(len(upsampled), side * side * 4, -1)
            own = made.classes[at[some]][:, :, None]  # (r, C', 1)
            logits[some] = torch.bmm(by_pixel, own)[..., 0]
        logits += made.class_bias[at][:, None]
        square = logits.view(boxes, side, side, 2, 2).transpose(2, 3)  # (R, S, 2, S, 2)
        return square.reshape(boxes, 2 * side, 2 * side).sigmoid_()
