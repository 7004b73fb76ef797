"""Mask R-CNN's mask head (He et al., 2017): one small mask for each class inside each box.

Legend: R boxes of all images, C channels, S pooled side, K classes, M = 2 * S mask side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.layers import Conv2d, at_least_float32, conv_relu, init_msra_, init_normal_


class MaskHead(nn.Module):
    """3x3 convolutions mask_fcn1 …, a 2x upsampling, and a 1x1 predictor."""

    def __init__(
        self, in_channels: int, conv_dims: tuple[int, ...], num_classes: int, class_agnostic: bool, norm: str
    ) -> None:
        """Build the layers.

        Args:
            in_channels: of the pooled features.
            conv_dims: channels that each convolution gives, and last those of the upsampling.
            num_classes: K.
            class_agnostic: one mask for all classes.
            norm: of the convolutions.
        """
        super().__init__()
        *conv_dims_before, upsampled = conv_dims
        self.num_convs = len(conv_dims_before)
        self.class_agnostic = class_agnostic
        self.class_layers = () if class_agnostic else ("predictor",)
        channels = in_channels
        for k, dim in enumerate(conv_dims_before, 1):
            conv = Conv2d(channels, dim, 3, norm=norm)
            init_msra_(conv)
            self.add_module(f"mask_fcn{k}", conv)
            channels = dim
        self.deconv = nn.ConvTranspose2d(channels, upsampled, kernel_size=2, stride=2)
        self.predictor = Conv2d(upsampled, 1 if class_agnostic else num_classes, 1)
        init_msra_(self.deconv)
        init_normal_(self.predictor, std=0.001)

    def logits(self, x: Tensor) -> Tensor:
        """(R, C, S, S) to (R, K or 1, M, M)."""
        for k in range(1, self.num_convs + 1):
            x = conv_relu(self.get_submodule(f"mask_fcn{k}"), x)
        logits: Tensor = self.predictor(F.relu_(self.deconv(x)))
        return logits

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """Probabilities of each box's own class: (R, C, S, S) and (R,) to (R, M, M)."""
        return self._own_class(self.logits(x), classes).sigmoid()

    def loss(self, x: Tensor, classes: Tensor, masks: Tensor) -> Tensor:
        """Mean binary cross-entropy of each box's own class; 0, with a gradient, for no boxes.

        Args:
            x: (R, C, S, S), pooled from boxes of the foreground.
            classes: (R,) int64.
            masks: (R, M, M) bool.

        Source: Mask R-CNN, section 3; detectron2, `mask_rcnn_loss`.
        """
        logits = at_least_float32(self._own_class(self.logits(x), classes))
        if len(logits) == 0:
            return logits.sum()
        return F.binary_cross_entropy_with_logits(logits, masks.to(logits.dtype))

    def _own_class(self, logits: Tensor, classes: Tensor) -> Tensor:
        at = torch.zeros_like(classes) if self.class_agnostic else classes
        return logits[torch.arange(len(at), device=at.device), at]  # (R, M, M)
