"""Semantic head of panoptic FPN (Kirillov et al., 2019): p2 … p5 brought to stride 4, summed, classified.

Legend: N images, C channels, K semantic classes, H and W of the padded input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.layers import Conv2d, at_least_float32, init_msra_


class SemSegFPNHead(nn.Module):
    """One small stack of convolutions and 2x upsamplings for each level, named as the level."""

    class_layers = ("predictor",)

    def __init__(
        self,
        in_features: tuple[str, ...],
        in_strides: tuple[int, ...],
        in_channels: int,
        conv_dim: int,
        common_stride: int,
        num_classes: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.common_stride = common_stride
        for name, stride in zip(in_features, in_strides, strict=True):
            self.add_module(name, _scale_head(in_channels, conv_dim, stride // common_stride, norm))
        self.predictor = Conv2d(conv_dim, num_classes, 1)
        init_msra_(self.predictor)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Logits (N, K, H, W)."""
        return self._upsample(self._coarse_logits(features))

    def loss(self, features: dict[str, Tensor], classes: Tensor, ignore_value: int) -> Tensor:
        """Mean cross-entropy of the pixels, those ignored left out; 0, with a gradient, where all are.

        Args:
            features: of the pictures.
            classes: (N, H, W) int64, the padding ignored.
            ignore_value: the class that does not count.

        Source: detectron2, `SemSegFPNHead.losses`.
        """
        coarse = at_least_float32(self._coarse_logits(features))
        # The logits of one picture of 12 MP, 54 classes each, take 2.6 GB. So they are made for one picture
        # at a time and give way to the gradient of its coarse logits before the next one's turn.
        total, gradients = coarse.new_zeros(()), []
        for picture, target in zip(coarse.split(1), classes.split(1), strict=True):
            own = picture.detach().requires_grad_(coarse.requires_grad)
            loss = self._picture_loss(own, target, ignore_value)
            total += loss.detach()
            if loss.requires_grad:
                gradients += torch.autograd.grad(loss, own)
        if gradients:
            total = _WithGradient.apply(coarse, total, torch.cat(gradients))
        return total / (classes != ignore_value).sum().clamp(min=1)

    def _picture_loss(self, coarse: Tensor, classes: Tensor, ignore_value: int) -> Tensor:
        return F.cross_entropy(self._upsample(coarse), classes, ignore_index=ignore_value, reduction="sum")

    def _coarse_logits(self, features: dict[str, Tensor]) -> Tensor:
        x = sum(self.get_submodule(name)(features[name]) for name in self.in_features)
        logits: Tensor = self.predictor(x)  # (N, K, H / 4, W / 4)
        return logits

    def _upsample(self, coarse: Tensor) -> Tensor:
        return F.interpolate(coarse, scale_factor=self.common_stride, mode="bilinear", align_corners=False)


def _scale_head(in_channels: int, conv_dim: int, upscale: int, norm: str) -> nn.Sequential:
    """Convolutions at the even places; behind each, ReLU and, until `upscale` is reached, doubling."""
    layers: list[nn.Module] = []
    for k in range(max(1, upscale.bit_length() - 1)):
        # The code that trained the published checkpoint knew "GN" here and, for any other name, built a
        # convolution with neither norm nor bias. The checkpoint's keys hold us to that.
        known = norm if norm == "GN" else ""
        conv = Conv2d(in_channels if k == 0 else conv_dim, conv_dim, 3, norm=known, bias=not norm)
        init_msra_(conv)
        layers += [conv, nn.ReLU() if upscale == 1 else _ReLUUpsample()]
    return nn.Sequential(*layers)


class _ReLUUpsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(F.relu(x), scale_factor=2, mode="bilinear", align_corners=False)


class _WithGradient(torch.autograd.Function):
    """A value computed from `x`, and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * grads[0], None, None
