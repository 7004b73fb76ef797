"""Operations by the compiled kernels of the package `resnest-zoo-kernels`, where it is installed.

library      what of the package is used, and whether it can be
threads      ranges of one operation's work in several threads
panels       weights in the order in which the kernels read them
convolution  3x3 by Winograd
masks        run lengths of masks over boxes
pictures     resizing
sampling     deformable convolution and ROIAlign
attention    split attention
"""

from resnest_zoo.ops._kernels.attention import (
    refuse_split_attention,
    split_attention_gap,
    split_attention_mix,
)
from resnest_zoo.ops._kernels.convolution import (
    Packed,
    conv3x3,
    conv3x3_stack,
    pack_conv3x3,
    refuse_conv3x3,
    slow_conv3x3,
)
from resnest_zoo.ops._kernels.library import available
from resnest_zoo.ops._kernels.masks import encode_pasted_masks, refuse_encode_pasted_masks
from resnest_zoo.ops._kernels.pictures import refuse_resize_image, resize_image
from resnest_zoo.ops._kernels.sampling import (
    PackedDeform,
    deform_conv2d,
    pack_deform_conv2d,
    refuse_deform_conv2d,
    refuse_roi_align,
    roi_align,
)

__all__ = [
    "Packed",
    "PackedDeform",
    "available",
    "conv3x3",
    "conv3x3_stack",
    "deform_conv2d",
    "encode_pasted_masks",
    "pack_conv3x3",
    "pack_deform_conv2d",
    "refuse_conv3x3",
    "refuse_deform_conv2d",
    "refuse_encode_pasted_masks",
    "refuse_resize_image",
    "refuse_roi_align",
    "refuse_split_attention",
    "resize_image",
    "roi_align",
    "slow_conv3x3",
    "split_attention_gap",
    "split_attention_mix",
]
