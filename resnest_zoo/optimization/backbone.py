"""The bottom-up network and the pyramid: channels last throughout, with as few passes as they need."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.fpn import FPN
from resnest_zoo.models.layers import DeformConv2d
from resnest_zoo.models.resnest import SplitAttention
from resnest_zoo.models.resnet import Bottleneck, DeepStem, ResNet, Stem
from resnest_zoo.ops.attention import split_attention_gap, split_attention_mix
from resnest_zoo.optimization.layers import (
    Layer,
    Optimized,
    OptimizedConv2d,
    OptimizedDeformConv2d,
    fold,
    fold_deform,
    folded,
    to_channels_last,
)


class OptimizedStem(Optimized, Stem):
    """One convolution and a pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H/4, W/4)."""
        if not (self.can_run(x) and are_optimized(self.conv1)):
            return super().forward(x)
        x = self.conv1.run(to_channels_last(x), relu=True)  # type: ignore[operator]
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class OptimizedDeepStem(Optimized, DeepStem):
    """Three convolutions and a pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 2 * width, H/4, W/4)."""
        convs = (self.conv1_1, self.conv1_2, self.conv1_3)
        if not (self.can_run(x) and are_optimized(*convs)):
            return super().forward(x)
        x = to_channels_last(x)
        for conv in convs:
            x = conv.run(x, relu=True)  # type: ignore[operator]
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class OptimizedSplitAttention(Optimized, SplitAttention):
    """Split attention in three passes over the map: convolution, mean, weighted sum."""

    def prepare(self) -> Any:
        """The large convolution, and what `folded` gives of the first small one, each with its norm."""
        deformable = isinstance(self.conv, DeformConv2d)
        conv = (fold_deform if deformable else fold)(self.conv, self.bn0)  # type: ignore[arg-type]
        return conv, folded(self.fc1.weight, self.fc1.bias, self.bn1)

    def forward(self, x: Tensor, *offset_and_mask: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        if not (self.can_run(x) and are_optimized(self.conv, self.fc1, self.fc2)):
            return super().forward(x, *offset_and_mask)
        return self.run(to_channels_last(x), *offset_and_mask)

    def run(self, x: Tensor, *offset_and_mask: Tensor) -> Tensor:
        """As a part of a module that has asked `can_run`."""
        conv, (weight, bias, norm) = self.prepared()
        if isinstance(conv, Layer):
            x = conv(x, relu=True)
        else:
            offset, mask = (*offset_and_mask, None)[:2]
            x = conv(x, offset, mask, relu=True)
        pooled = split_attention_gap(x, self.radix)[:, :, None, None]  # (N, C, 1, 1)
        hidden = F.conv2d(pooled, weight, bias, groups=self.groups)
        hidden = (hidden if norm is None else norm(hidden)).relu_()
        logits = F.conv2d(
            hidden, self.fc2.weight, self.fc2.bias, groups=self.groups
        )  # (N, K * R * C/K, 1, 1)
        by_split = logits.view(len(x), self.groups, self.radix, -1).transpose(1, 2)  # (N, R, K, C/K)
        return split_attention_mix(x, by_split.softmax(dim=1).flatten(2))


class OptimizedBottleneck(Optimized, Bottleneck):
    """A block whose last convolution adds the shortcut and rectifies in the same pass."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        return self.run(to_channels_last(x)) if self.can_run_block(x) else super().forward(x)

    def can_run_block(self, x: Tensor) -> bool:
        """Whether `run` may be called."""
        parts = (self.conv1, self.conv2, self.conv3, self.conv2_offset, self.shortcut)
        return self.can_run(x) and are_optimized(*(part for part in parts if part is not None))

    def run(self, x: Tensor, *, overwrite: bool = False) -> Tensor:
        """As `forward`; with `overwrite`, the result may lie in the memory of `x`."""
        out = self._run_spatial(self.conv1.run(x, relu=True))  # type: ignore[operator]
        if self.avd_layer is not None:
            out = self.avd_layer(out)
        if self.shortcut is None:
            x = x if overwrite else x.clone(memory_format=torch.channels_last)
        else:
            x = x if self.shortcut_avgpool is None else self.shortcut_avgpool(x)
            x = self.shortcut.run(x)  # type: ignore[operator]
        result: Tensor = self.conv3.run(out, relu=True, add=x)  # type: ignore[operator]
        return result

    def _run_spatial(self, x: Tensor) -> Tensor:
        shifts: tuple[Tensor, ...] = ()
        if self.conv2_offset is not None:
            predicted = self.conv2_offset.run(x)  # type: ignore[operator]
            if self.modulated:
                offset, mask = predicted.tensor_split([self.offset_channels], dim=1)
                shifts = (offset, mask.sigmoid())
            else:
                shifts = (predicted,)
        out: Tensor
        if isinstance(self.conv2, OptimizedSplitAttention):
            out = self.conv2.run(x, *shifts)
        elif isinstance(self.conv2, OptimizedDeformConv2d):
            out = self.conv2.run(x, shifts[0], shifts[1] if self.modulated else None, relu=True)
        else:
            out = self.conv2.run(x, relu=True)  # type: ignore[operator]
        return out


class OptimizedResNet(Optimized, ResNet):
    """Stages whose blocks, but for the last of each, need not keep what they hand on."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) to one feature map for each stage."""
        if not self.can_run(x):
            return super().forward(x)
        x = to_channels_last(self.stem(x))
        features = {}
        for name in self.out_features:
            for index, block in enumerate(self.get_submodule(name).children()):
                if isinstance(block, OptimizedBottleneck) and block.can_run_block(x):
                    # Nobody else sees what a block hands to the next one of its stage.
                    x = block.run(x, overwrite=index > 0)
                else:
                    x = block(x)
            features[name] = x
        return features


class OptimizedFPN(Optimized, FPN):
    """Laterals that add what comes from above in the same pass."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) to {"p2": (N, C, H/4, W/4), …}."""
        convs = [
            self.get_submodule(f"fpn_{kind}{level}")
            for level in self.levels
            for kind in ("lateral", "output")
        ]
        if not (self.can_run(x) and are_optimized(*convs)):
            return super().forward(x)
        bottom_up = self.bottom_up(x)
        outputs: dict[str, Tensor] = {}
        merged: Tensor | None = None
        for level, name in zip(reversed(self.levels), reversed(self.in_features), strict=True):
            lateral: OptimizedConv2d = self.get_submodule(f"fpn_lateral{level}")  # type: ignore[assignment]
            output: OptimizedConv2d = self.get_submodule(f"fpn_output{level}")  # type: ignore[assignment]
            above = None if merged is None else F.interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = lateral.run(to_channels_last(bottom_up.pop(name)), add=above)
            outputs[f"p{level}"] = output.run(merged)
        features = {f"p{level}": outputs[f"p{level}"] for level in self.levels}
        top = self.levels[-1]
        features[f"p{top + 1}"] = F.max_pool2d(features[f"p{top}"], kernel_size=1, stride=2)
        return features


def are_optimized(*modules: nn.Module) -> bool:
    """Whether all parts are as the optimiser left them; somebody may have put others in their places."""
    return all(isinstance(module, Optimized) for module in modules)
