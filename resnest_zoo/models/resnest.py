"""Split attention, the heart of ResNeSt (Zhang et al., 2020, arXiv:2004.08955).

A grouped 3x3 convolution makes `radix` splits of the feature map; a small network looks at their global
average and gives each channel of each split a weight; the weighted splits are summed.

Legend: N images, R radix, K cardinality (groups), C channels of a split, H and W height and width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from resnest_zoo.models.layers import Conv2d, DeformConv2d, build_norm


class SplitAttention(nn.Module):
    """Split-attention convolution, rigid or deformable, with its norms and ReLU inside.

    The average runs over the whole map, padding included: a picture's features depend on its padding.
    """

    def __init__(
        self,
        channels: int,
        radix: int,
        *,
        stride: int,
        groups: int,
        deformable: bool,
        norm: str,
    ) -> None:
        super().__init__()
        self.radix = radix
        self.groups = groups
        hidden = max(channels * radix // 4, 32)
        wide, splits = channels * radix, groups * radix
        self.conv: nn.Module
        if deformable:
            self.conv = DeformConv2d(channels, wide, stride=stride, groups=splits)
        else:
            self.conv = Conv2d(channels, wide, 3, stride=stride, groups=splits, bias=False)
        self.bn0 = build_norm(norm, wide) or nn.Identity()
        self.fc1 = Conv2d(channels, hidden, 1, groups=groups)
        self.bn1 = build_norm(norm, hidden) or nn.Identity()
        self.fc2 = Conv2d(hidden, wide, 1, groups=groups)

    def forward(self, x: Tensor, *offset_and_mask: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        x = F.relu_(self.bn0(self.conv(x, *offset_and_mask)))
        splits: Tensor = x.unflatten(1, (self.radix, -1))  # (N, R, C, H', W')
        pooled = splits.sum(dim=1).mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        logits = self.fc2(F.relu_(self.bn1(self.fc1(pooled))))  # (N, K * R * C/K, 1, 1)
        logits = logits.unflatten(1, (self.groups, self.radix, -1)).transpose(1, 2)  # (N, R, K, C/K, 1, 1)
        attention: Tensor = logits.softmax(dim=1).flatten(2, 3)  # (N, R, C, 1, 1)
        return (attention * splits).sum(dim=1)  # (N, C, H', W')


def pooled_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of split attentions, which see one value of each picture and channel.

    In training they need more than one picture.
    """
    norms = [part.bn1 for part in module.modules() if isinstance(part, SplitAttention)]
    return [norm for norm in norms if isinstance(norm, nn.BatchNorm2d)]
