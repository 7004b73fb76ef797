"""The weights and pictures that golden files were computed from, which a name and a seed define."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import nn

Array = np.ndarray[Any, Any]

_GAINS = (
    ("conv2_offset", 1.0),
    ("backbone.bottom_up.stem.conv1.weight", 0.03),
    ("cls_score", 12.0),
    ("sem_seg_head.predictor", 6.0),
    ("objectness_logits", 4.0),
    ("anchor_deltas", 0.1),
    ("bbox_pred", 0.5),
    ("mask_head.predictor", 2.0),
    ("fpn_", 1.0),
)


def values(key: str, shape: tuple[int, ...]) -> Array:
    """The float64 values of the state-dict tensor `key`: normal, seeded by the key, scaled by its role."""
    normal = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    kind = key.rpartition(".")[2]
    if kind == "running_var":
        return 1 + 0.3 * np.abs(normal)
    if kind in ("running_mean", "bias"):
        return 0.1 * normal
    if any(part in key for part in (".norm.", ".bn0.", ".bn1.")):
        # The last norm of a residual branch is small, so that 200 layers do not explode.
        return (0.15 if ".conv3.norm." in key else 1.0) * (1 + 0.1 * normal)
    gain = next((g for part, g in _GAINS if part in key), 2**0.5)
    return gain * normal / np.prod(shape[1:]) ** 0.5


def fill(model: nn.Module) -> None:
    """Give every tensor of `model` the values its name defines; counters of batches start at 0."""
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            tensor.zero_()
        else:
            tensor.copy_(torch.from_numpy(values(key, tuple(tensor.shape))))


def image(height: int, width: int, seed: int) -> Array:
    """A picture (3, height, width) uint8 of rectangles and ellipses under noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    canvas = np.full((3, height, width), 110.0)
    for _ in range(24):
        colour = rng.uniform(-90, 90, 3)
        dy = y - rng.uniform(0, height)
        dx = x - rng.uniform(0, width)
        dy, dx = dy / rng.uniform(6, height / 3), dx / rng.uniform(6, width / 3)
        distance = np.maximum(abs(dy), abs(dx)) if rng.random() < 0.5 else np.hypot(dy, dx)
        canvas += colour[:, None, None] * (distance < 1)
    canvas += rng.normal(0, 25, canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def samples(tensor: Array, count: int = 64) -> Array:
    """`count` values spread evenly over the flattened tensor, then its mean and standard deviation."""
    flat = tensor.reshape(-1)
    at = np.arange(count) * (flat.size - 1) // (count - 1)
    return np.concatenate((flat[at], [flat.mean(), flat.std()]))
