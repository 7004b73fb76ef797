"""ResNet bottom-up network: the plain and the deep stem, bottleneck blocks, stages.

ResNet: He et al., 2016. Deep stem, average pooling before stride and average-pooled shortcuts: He et al.,
"Bag of Tricks", 2019, and ResNeSt. Deformable 3x3: Dai et al., 2017; modulated: Zhu et al., 2019.
What ResNeSt puts in place of the 3x3 convolution stands in `resnest.py`.

Legend: N images, C channels, H and W height and width, G deformable groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.layers import Conv2d, DeformConv2d, conv_relu, freeze, init_msra_
from resnest_zoo.models.resnest import SplitAttention

BLOCKS_PER_STAGE = {
    14: (1, 1, 1, 1),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}


@dataclass(frozen=True)
class BlockStyle:
    """What the blocks of one stage have in common.

    Attributes:
        norm: name of the norm behind each convolution.
        groups: groups of the 3x3 convolution (its cardinality).
        radix: splits of split attention; 1 is a plain ResNet block.
        stride_in_1x1: a strided block strides in its first 1x1 (MSRA) rather than in its 3x3.
        avg_before_stride: a strided 3x3 keeps stride 1 and a 3x3 average pooling behind it strides ("avd").
        avg_shortcut: a strided shortcut pools, then projects with stride 1 ("avg_down").
        deform_groups: deformable groups of the 3x3; 0 for a rigid one.
        modulated: deformable samples carry a mask (DCNv2).
    """

    norm: str
    groups: int = 1
    radix: int = 1
    stride_in_1x1: bool = False
    avg_before_stride: bool = False
    avg_shortcut: bool = False
    deform_groups: int = 0
    modulated: bool = False


class Stem(nn.Module):
    """One strided 7x7 convolution, then max pooling: overall stride 4."""

    def __init__(self, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, out_channels, 7, stride=2, norm=norm)
        self.out_channels = out_channels
        init_msra_(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H/4, W/4)."""
        return F.max_pool2d(conv_relu(self.conv1, x), kernel_size=3, stride=2, padding=1)


class DeepStem(nn.Module):
    """Three 3x3 convolutions, the first strided, then max pooling: overall stride 4."""

    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.conv1_1 = Conv2d(3, width, 3, stride=2, norm=norm)
        self.conv1_2 = Conv2d(width, width, 3, norm=norm)
        self.conv1_3 = Conv2d(width, 2 * width, 3, norm=norm)
        self.out_channels = 2 * width
        for conv in (self.conv1_1, self.conv1_2, self.conv1_3):
            init_msra_(conv)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 2 * width, H/4, W/4)."""
        for conv in (self.conv1_1, self.conv1_2, self.conv1_3):
            x = conv_relu(conv, x)
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut around them.

    The 3x3 is a convolution, a split attention (`radix > 1`), or the deformable form of either.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, stride: int, style: BlockStyle
    ) -> None:
        super().__init__()
        norm = style.norm
        pools_stride = style.avg_before_stride and stride > 1
        stride_1x1, stride_3x3 = (stride, 1) if style.stride_in_1x1 else (1, stride)
        if pools_stride:
            stride_3x3 = 1

        self.modulated = style.modulated
        self.offset_channels = 2 * 9 * style.deform_groups
        self.shortcut: Conv2d | None = None
        self.shortcut_avgpool: nn.Module | None = None
        if in_channels != out_channels:
            if style.avg_shortcut:
                self.shortcut_avgpool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            shortcut_stride = 1 if style.avg_shortcut else stride
            self.shortcut = Conv2d(in_channels, out_channels, 1, stride=shortcut_stride, norm=norm)
            init_msra_(self.shortcut)

        self.conv1 = Conv2d(in_channels, width, 1, stride=stride_1x1, norm=norm)
        init_msra_(self.conv1)
        self.conv2_offset: Conv2d | None = None
        if style.deform_groups:
            self.conv2_offset = _offset_conv(width, stride_3x3, style)
        self.conv2 = _spatial_conv(width, stride_3x3, style)
        # A 3x3 pooling also where the stride was put in the 1x1, as in the reference.
        self.avd_layer = nn.AvgPool2d(3, stride, padding=1) if pools_stride else None
        self.conv3 = Conv2d(width, out_channels, 1, norm=norm)
        init_msra_(self.conv3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = self._spatial(conv_relu(self.conv1, x))
        if self.avd_layer is not None:
            out = self.avd_layer(out)
        out = self.conv3(out)
        if self.shortcut is not None:
            if self.shortcut_avgpool is not None:
                x = self.shortcut_avgpool(x)
            x = self.shortcut(x)
        return F.relu_(out + x)

    def _spatial(self, x: Tensor) -> Tensor:
        if self.conv2_offset is None:
            out = self.conv2(x)
        elif self.modulated:
            offset, mask = self.conv2_offset(x).tensor_split([self.offset_channels], dim=1)
            out = self.conv2(x, offset, mask.sigmoid())
        else:
            out = self.conv2(x, self.conv2_offset(x))
        # Split attention rectifies inside.
        return out if isinstance(self.conv2, SplitAttention) else F.relu_(out)


def _offset_conv(width: int, stride: int, style: BlockStyle) -> Conv2d:
    """Predicts, for each of 9 taps and deformable group, a shift (y, x) and, modulated, a mask logit."""
    channels = (27 if style.modulated else 18) * style.deform_groups
    conv = Conv2d(width, channels, 3, stride=stride, groups=style.deform_groups)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _spatial_conv(width: int, stride: int, style: BlockStyle) -> nn.Module:
    """The 3x3 in the middle of a block."""
    groups, norm = style.groups, style.norm
    if style.radix > 1:
        deformable = style.deform_groups > 0
        return SplitAttention(
            width, style.radix, stride=stride, groups=groups, deformable=deformable, norm=norm
        )
    conv: nn.Module
    if style.deform_groups:
        conv = DeformConv2d(width, width, stride=stride, groups=groups, norm=norm)
    else:
        conv = Conv2d(width, width, 3, stride=stride, groups=groups, norm=norm)
    init_msra_(conv)
    return conv


class ResNet(nn.Module):
    """Stem and stages res2 … res5.

    Attributes:
        out_features: names of the stages.
        out_channels: channels of each.
        out_strides: stride of each with respect to the picture.
    """

    def __init__(
        self,
        stem: Stem | DeepStem,
        stages: dict[str, nn.Sequential],
        channels: dict[str, int],
        strides: dict[str, int],
    ) -> None:
        super().__init__()
        self.stem = stem
        self.out_features = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.out_channels = channels
        self.out_strides = strides

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) to one feature map for each stage."""
        x = self.stem(x)
        features = {}
        for name in self.out_features:
            x = self.get_submodule(name)(x)
            features[name] = x
        return features

    def freeze_stages(self, freeze_at: int) -> None:
        """Freeze the stem (from 1 on) and the stages up to res`freeze_at`."""
        if freeze_at >= 1:
            freeze(self.stem)
        for name in self.out_features:
            if int(name.removeprefix("res")) <= freeze_at:
                freeze(self.get_submodule(name))


def make_stage(
    in_channels: int, out_channels: int, width: int, num_blocks: int, stride: int, style: BlockStyle
) -> nn.Sequential:
    """`num_blocks` bottlenecks, the first of which changes channels and resolution."""
    blocks = [Bottleneck(in_channels, out_channels, width, stride, style)]
    blocks += [Bottleneck(out_channels, out_channels, width, 1, style) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
