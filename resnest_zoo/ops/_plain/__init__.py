"""Operations by PyTorch's public operators alone, in an order that is faster on the CPU.

winograd     3x3 convolution of maps of any size
small_maps   the same of many small maps at once, pixel after pixel
sampling     deformable convolution and ROIAlign as weighted sums of rows of a table
attention    split attention in as few passes as the arithmetic needs
toom_cook    the matrices behind Winograd's algorithm
workspace    memory that is used again
"""

from resnest_zoo.ops._plain.attention import (
    refuse_split_attention,
    split_attention_gap,
    split_attention_mix,
)
from resnest_zoo.ops._plain.sampling import (
    deform_conv2d,
    refuse_deform_conv2d,
    refuse_roi_align,
    roi_align,
)
from resnest_zoo.ops._plain.small_maps import conv3x3_stack
from resnest_zoo.ops._plain.winograd import (
    Packed,
    conv3x3,
    pack_conv3x3,
    refuse_conv3x3,
    slow_conv3x3,
)

__all__ = [
    "Packed",
    "conv3x3",
    "conv3x3_stack",
    "deform_conv2d",
    "pack_conv3x3",
    "refuse_conv3x3",
    "refuse_deform_conv2d",
    "refuse_roi_align",
    "refuse_split_attention",
    "roi_align",
    "slow_conv3x3",
    "split_attention_gap",
    "split_attention_mix",
]
