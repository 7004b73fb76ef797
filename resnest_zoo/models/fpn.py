"""Feature pyramid network (Lin et al., 2017): res2 … res5 in, p2 … p6 out, all of one width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.layers import Conv2d, init_xavier_
from resnest_zoo.models.resnet import ResNet


class FPN(nn.Module):
    """Lateral 1x1 and output 3x3 convolutions over a bottom-up network.

    Attributes:
        out_strides: stride of p2 … p6 with respect to the picture.
        size_divisibility: input sides must be multiples of this, so that every level halves exactly.
    """

    def __init__(self, bottom_up: ResNet, in_features: tuple[str, ...], out_channels: int, norm: str) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.in_features = in_features
        self.levels = tuple(int(name.removeprefix("res")) for name in in_features)
        for level, name in zip(self.levels, in_features, strict=True):
            lateral = Conv2d(bottom_up.out_channels[name], out_channels, 1, norm=norm)
            output = Conv2d(out_channels, out_channels, 3, norm=norm)
            init_xavier_(lateral)
            init_xavier_(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        self.out_channels = out_channels
        self.out_strides = {
            f"p{level}": bottom_up.out_strides[name]
            for level, name in zip(self.levels, in_features, strict=True)
        }
        self.size_divisibility = max(self.out_strides.values())
        self.out_strides[f"p{self.levels[-1] + 1}"] = 2 * self.size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), H and W multiples of `size_divisibility`, to {"p2": (N, C, H/4, W/4), …}."""
        bottom_up = self.bottom_up(x)
        outputs: dict[str, Tensor] = {}
        merged: Tensor | None = None
        for level, name in zip(reversed(self.levels), reversed(self.in_features), strict=True):
            lateral = self.get_submodule(f"fpn_lateral{level}")(bottom_up[name])
            merged = (
                lateral
                if merged is None
                else lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
            )
            outputs[f"p{level}"] = self.get_submodule(f"fpn_output{level}")(merged)
        features = {f"p{level}": outputs[f"p{level}"] for level in self.levels}
        top = self.levels[-1]
        features[f"p{top + 1}"] = F.max_pool2d(features[f"p{top}"], kernel_size=1, stride=2)
        return features
