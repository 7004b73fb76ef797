"""Operations that have several implementations, as slow and plain loops in float64: what all must compute.

Arrays are numpy's. Legend: N images, C channels, H and W, G groups, D deformable groups, R regions, S pooled
side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def conv3x3(x: Array, weight: Array, bias: Array | None, groups: int, relu: bool) -> Array:
    """Stride 1, padding 1: (N, C, H, W) and (C', C / G, 3, 3) to (N, C', H, W)."""
    images, _, height, width = x.shape
    out_channels, per_group = weight.shape[:2]
    out = np.zeros((images, out_channels, height, width))
    for n in range(images):
        for o in range(out_channels):
            first = o // (out_channels // groups) * per_group
            for i in range(height):
                for j in range(width):
                    total = 0.0 if bias is None else float(bias[o])
                    for tap in range(9):
                        y, x_at = i + tap // 3 - 1, j + tap % 3 - 1
                        if 0 <= y < height and 0 <= x_at < width:
                            pixel = x[n, first : first + per_group, y, x_at].astype(float)
                            total += float((pixel * weight[o, :, tap // 3, tap % 3]).sum())
                    out[n, o, i, j] = max(total, 0.0) if relu else total
    return out


def deform_conv2d(
    x: Array,
    offset: Array,
    mask: Array | None,
    weight: Array,
    bias: Array | None,
    relu: bool,
    stride: int,
    padding: int,
) -> Array:
    """Offsets (N, 2 * D * k * k, H', W') in (y, x) pairs, mask (N, D * k * k, H', W')."""
    images, channels = x.shape[:2]
    out_channels, per_group, k, _ = weight.shape
    groups, deform_groups = channels // per_group, offset.shape[1] // (2 * k * k)
    height, width = offset.shape[2:]
    out = np.zeros((images, out_channels, height, width))
    for n in range(images):
        for i in range(height):
            for j in range(width):
                column = np.zeros((channels, k, k))
                for c in range(channels):
                    for tap in range(k * k):
                        at = c // (channels // deform_groups) * k * k + tap
                        y = i * stride - padding + tap // k + float(offset[n, 2 * at, i, j])
                        x_at = j * stride - padding + tap % k + float(offset[n, 2 * at + 1, i, j])
                        factor = 1.0 if mask is None else float(mask[n, at, i, j])
                        column[c, tap // k, tap % k] = factor * zero_outside(x[n, c], y, x_at)
                for o in range(out_channels):
                    first = o // (out_channels // groups) * per_group
                    total = float((column[first : first + per_group] * weight[o]).sum())
                    total += 0.0 if bias is None else float(bias[o])
                    out[n, o, i, j] = max(total, 0.0) if relu else total
    return out


def zero_outside(plane: Array, y: float, x: float) -> float:
    """The value between the pixels of (H, W); pixels beyond them are 0."""
    height, width = plane.shape
    if not (-1 < y < height and -1 < x < width):
        return 0.0
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * float(plane[i, j])
    return total


def roi_align(features: Array, rois: Array, size: int, scale: float, sampling_ratio: int) -> Array:
    """Means of evenly spaced samples of each cell; `rois` (R, 5) as index of the image and corners."""
    out = np.zeros((len(rois), features.shape[1], size, size))
    for r, (image, *corners) in enumerate(rois.astype(float)):
        left, top, right, bottom = (corner * scale - 0.5 for corner in corners)
        cell_h, cell_w = (bottom - top) / size, (right - left) / size
        rows = sampling_ratio if sampling_ratio > 0 else math.ceil(cell_h)
        cols = sampling_ratio if sampling_ratio > 0 else math.ceil(cell_w)
        for c in range(features.shape[1]):
            plane = features[int(image), c]
            for i in range(size):
                for j in range(size):
                    total = 0.0
                    for a in range(rows):
                        for b in range(cols):
                            y = top + (i + (a + 0.5) / rows) * cell_h
                            x = left + (j + (b + 0.5) / cols) * cell_w
                            total += held_at_the_edge(plane, y, x)
                    out[r, c, i, j] = total / max(rows * cols, 1)
    return out


def held_at_the_edge(plane: Array, y: float, x: float) -> float:
    """The value between the pixels of (H, W); that of the edge up to one pixel beyond it, then 0."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    above = plane[top, left] * (1 - (x - left)) + plane[top, right] * (x - left)
    below = plane[bottom, left] * (1 - (x - left)) + plane[bottom, right] * (x - left)
    return float(above * (1 - (y - top)) + below * (y - top))


def split_attention_gap(x: Array, radix: int) -> Array:
    """(N, radix * C, H, W) to (N, C): the mean over the map of the sum of the splits."""
    images, wide, height, width = x.shape
    channels = wide // radix
    out = np.zeros((images, channels))
    for n in range(images):
        for c in range(channels):
            for r in range(radix):
                out[n, c] += float(x[n, r * channels + c].astype(float).sum()) / (height * width)
    return out


def split_attention_mix(x: Array, attention: Array) -> Array:
    """(N, radix * C, H, W) and (N, radix, C) to (N, C, H, W): the sum of the weighted splits."""
    images, radix, channels = attention.shape
    out = np.zeros((images, channels, *x.shape[2:]))
    for n in range(images):
        for r in range(radix):
            for c in range(channels):
                out[n, c] += float(attention[n, r, c]) * x[n, r * channels + c].astype(float)
    return out
