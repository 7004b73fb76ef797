"""Operations by PyTorch's, torchvision's and Pillow's own; what every other implementation is measured by.

Legend: N images, C channels, H and W, G groups, D deformable groups, R regions or radix, S pooled side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from resnest_zoo.ops import operators

if TYPE_CHECKING:
    from resnest_zoo.ops.rle import RLE


@dataclass(frozen=True)
class Packed:
    """Weights (C', C / G, k, k) as the operator takes them."""

    weight: Tensor
    bias: Tensor | None
    groups: int
    stride: int
    padding: int


def refuse_conv2d(weight: Tensor, groups: int, stride: int, padding: int) -> str | None:
    """Nothing is refused."""
    return None


def pack_conv2d(weight: Tensor, bias: Tensor | None, groups: int, stride: int, padding: int) -> Packed:
    """Weights for `conv2d`."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    return Packed(weight, bias, groups, stride, padding)


def conv2d(x: Tensor, packed: Packed, relu: bool, add: Tensor | None) -> Tensor:
    """Convolve, add `add`, rectify."""
    p = packed
    if p.weight.shape[2:] == (1, 1) and p.groups == 1 and p.padding == 0:
        out = _conv1x1(x[:, :, :: p.stride, :: p.stride], p.weight, p.bias)
    else:
        out = F.conv2d(x, p.weight, p.bias, p.stride, p.padding, 1, p.groups)
    if add is not None:
        out += add
    return out.relu_() if relu else out


def _conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As one matrix product over pixels: PyTorch's own way copies where there is one thread."""
    x = x.contiguous(memory_format=torch.channels_last)
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def refuse_conv3x3(weight: Tensor, groups: int) -> str | None:
    """Nothing is refused."""
    return None


def pack_conv3x3(weight: Tensor, groups: int) -> Packed:
    """Weights for `conv3x3`."""
    return pack_conv2d(weight, None, groups, 1, 1)


def conv3x3(x: Tensor, packed: Packed, bias: Tensor | None, relu: bool) -> Tensor:
    """Convolve with stride 1 and padding 1, rectify."""
    out = F.conv2d(x, packed.weight, bias, 1, 1, 1, packed.groups)
    return out.relu_() if relu else out


def refuse_deform_conv2d(x: Tensor, *_: Any) -> str | None:
    """A dtype that torchvision lacks is refused."""
    return _refuse_dtype(x)


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    relu: bool,
    stride: int,
    padding: int,
) -> Tensor:
    """Sample at shifted places, which are finite, convolve, rectify."""
    out: Tensor = operators.deform_conv2d(x, offset, weight, bias, stride, padding, mask=mask)
    return out.relu_() if relu else out


def refuse_roi_align(features: Tensor, *_: Any) -> str | None:
    """A dtype that torchvision lacks is refused."""
    return _refuse_dtype(features)


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int) -> Tensor:
    """Pool regions with half-pixel-correct corners."""
    pooled: Tensor = operators.roi_align(features, rois, size, scale, sampling_ratio)
    return pooled


def refuse_split_attention(x: Tensor, radix: int) -> str | None:
    """Nothing is refused."""
    return None


def split_attention_gap(x: Tensor, radix: int) -> Tensor:
    """(N, R * C, H, W) to (N, C): the mean over the map of the sum of the splits."""
    splits: Tensor = x.unflatten(1, (radix, -1))  # (N, R, C, H, W)
    return splits.sum(dim=1).mean(dim=(2, 3))


def split_attention_mix(x: Tensor, attention: Tensor) -> Tensor:
    """(N, R * C, H, W) and (N, R, C) to (N, C, H, W): the sum of the weighted splits."""
    splits: Tensor = x.unflatten(1, (attention.shape[1], -1))  # (N, R, C, H, W)
    return (attention[..., None, None] * splits).sum(dim=1)


def _refuse_dtype(x: Tensor) -> str | None:
    known = (torch.float16, torch.float32, torch.float64)
    return None if x.dtype in known else f"torchvision has no kernel for {x.dtype}"


def refuse_resize_image(image: Tensor, size: tuple[int, int]) -> str | None:
    """Nothing is refused."""
    return None


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8 to (3, height, width) by Pillow's bilinear filter."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    resized = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()  # (3, height, width)


def refuse_encode_pasted_masks(mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> str | None:
    """Nothing is refused."""
    return None


def encode_pasted_masks(mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> list[RLE]:
    """Run lengths of (N, M, M) stretched over (N, 4) in a picture of (H, W), with NumPy."""
    from resnest_zoo.ops.rle import encode_with_numpy

    return encode_with_numpy(mask_probs, boxes, image_size)
