"""Slow and plain float64 versions of what the models compute, written from the papers: the oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def conv(x: Array, weight: Array, bias: Array | None, stride: int, padding: int, groups: int) -> Array:
    """One image (C, H, W); weight (C_out, C_in / groups, k, k)."""
    out_channels, per_group, k, _ = weight.shape
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    height = (padded.shape[1] - k) // stride + 1
    width = (padded.shape[2] - k) // stride + 1
    out = np.zeros((out_channels, height, width))
    for o in range(out_channels):
        first = o // (out_channels // groups) * per_group
        for i in range(height):
            for j in range(width):
                window = padded[
                    first : first + per_group, i * stride : i * stride + k, j * stride : j * stride + k
                ]
                out[o, i, j] = (window * weight[o]).sum() + (0.0 if bias is None else bias[o])
    return out


def bilinear(plane: Array, y: float, x: float) -> float:
    """The value of (H, W) `plane` between its pixels; pixels beyond it are 0."""
    total = 0.0
    top, left = math.floor(y), math.floor(x)
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * plane[i, j]
    return total


def deform_conv(
    x: Array, weight: Array, offset: Array, mask: Array | None, stride: int, groups: int, deform_groups: int
) -> Array:
    """One image; 3x3, padding 1. Offsets (2 * D * 9, H', W') as y, x pairs; mask (D * 9, H', W')."""
    out_channels, per_group = weight.shape[:2]
    height, width = offset.shape[1:]
    out = np.zeros((out_channels, height, width))
    for o in range(out_channels):
        first = o // (out_channels // groups) * per_group
        for i in range(height):
            for j in range(width):
                for c in range(first, first + per_group):
                    d = c // (x.shape[0] // deform_groups)
                    for tap in range(9):
                        at = d * 9 + tap
                        y_at = i * stride - 1 + tap // 3 + offset[2 * at, i, j]
                        x_at = j * stride - 1 + tap % 3 + offset[2 * at + 1, i, j]
                        value = bilinear(x[c], y_at, x_at)
                        value *= 1.0 if mask is None else mask[at, i, j]
                        out[o, i, j] += weight[o, c - first, tap // 3, tap % 3] * value
    return out


def iou(a: Array, b: Array) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union > 0 else 0.0


def suppress(boxes: Array, scores: Array, groups: Array, threshold: float) -> list[int]:
    """Indices kept, by falling score: a box falls to a better one of its group with IoU above threshold."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [k for k in kept if groups[k] == groups[index]]
        if all(iou(boxes[index], boxes[k]) <= threshold for k in rivals):
            kept.append(index)
    return kept


def decode(deltas: Array, anchor: Array, weights: tuple[float, ...]) -> Array:
    """One box from four deltas."""
    dx, dy, dw, dh = (d / w for d, w in zip(deltas, weights, strict=True))
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = anchor[0] + width / 2 + dx * width, anchor[1] + height / 2 + dy * height
    width *= math.exp(min(dw, math.log(1000 / 16)))
    height *= math.exp(min(dh, math.log(1000 / 16)))
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def encode(box: Array, anchor: Array, weights: tuple[float, ...]) -> list[float]:
    """The four deltas from an anchor to a box."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = (
        ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]) for b in (anchor, box)
    )
    deltas = ((bx - ax) / aw, (by - ay) / ah, math.log(bw / aw), math.log(bh / ah))
    return [d * w for d, w in zip(deltas, weights, strict=True)]


def match(
    targets: Array, boxes: Array, thresholds: tuple[float, ...], labels: tuple[int, ...], low_quality: bool
) -> tuple[list[int], list[int]]:
    """Index of the target and label of each box."""
    table = [[iou(box, target) for target in targets] for box in boxes]
    indices, found = [], []
    for row in table:
        best = max(row, default=0.0)
        indices.append(row.index(best) if row else 0)
        found.append(labels[sum(best >= threshold for threshold in thresholds)])
    for t in range(len(targets) if low_quality else 0):
        best = max((row[t] for row in table), default=0.0)
        for b, row in enumerate(table):
            if row[t] == best:
                found[b] = 1
    return indices, found


def smooth_l1(a: Array, b: Array, beta: float) -> float:
    """Sum over coordinates."""
    total = 0.0
    for difference in np.abs(np.asarray(a) - np.asarray(b)):
        total += 0.5 * difference**2 / beta if difference < beta else difference - 0.5 * beta
    return total


def binary_cross_entropy(logit: float, target: bool) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -math.log(probability if target else 1 - probability)


def clip(box: Array, size: tuple[int, int]) -> Array:
    height, width = size
    return np.clip(box, 0, [width, height, width, height])


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
