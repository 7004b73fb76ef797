"""Speed of evaluation against the tools everybody has, side by side on this machine, one thread each.

    python -m benchmarks.evaluation            # a table
    python -m benchmarks.evaluation --check    # exit status 1 if a floor is missed

    masks HxW    `encode_pasted_masks` of 100 instances against `paste_masks` and pycocotools' `encode`

Both sides give the same results, or there is no row. How times and ratios are taken: `benchmarks/ratios.py`.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

from benchmarks.ratios import Row, add_options, report, turns
from resnest_zoo.ops.masks import paste_masks
from resnest_zoo.ops.rle import RLE, encode_pasted_masks


def instances(count: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mask probabilities (count, 28, 28), blobs with soft edges, and boxes (count, 4) inside the picture.

    The roots of the boxes' areas are log-normal; of a picture of 480 x 640, 41 % of the areas lie below 32**2
    pixels and 24 % above 96**2, the shares of small and large objects that COCO names. They grow with the
    picture.
    """
    height, width = size
    rng = np.random.Generator(np.random.PCG64(seed))
    side = np.exp(rng.normal(3.734, 1.176, count)) * (height * width / (480 * 640)) ** 0.5
    aspect = np.exp(rng.normal(0, 0.5, count))
    wh = np.minimum(np.stack((side * aspect**0.5, side / aspect**0.5), axis=1), (width, height))
    corners = rng.uniform(0, 1, (count, 2)) * ((width, height) - wh)
    boxes = torch.from_numpy(np.concatenate((corners, corners + wh), axis=1)).float()

    waves = torch.from_numpy(rng.normal(0, 3, (count, 1, 5, 5))).float()
    waves = F.interpolate(waves, size=(28, 28), mode="bicubic")[:, 0]
    at = torch.linspace(-1, 1, 28)
    return (waves + 4 * (0.9 - at[:, None] ** 2 - at**2)).sigmoid(), boxes


def measure_masks(size: tuple[int, int], floor: float, rounds: int) -> Row:
    probs, boxes = instances(100, size)

    def ours() -> list[RLE]:
        return encode_pasted_masks(probs, boxes, size)

    def theirs() -> list[RLE]:
        rles: list[RLE] = []
        # One by one: the whole stack brought into the order of columns takes longer.
        for mask in paste_masks(probs, boxes, size).numpy().view(np.uint8):
            rle = coco_mask.encode(np.asfortranarray(mask))
            rles.append({"size": rle["size"], "counts": rle["counts"].decode("ascii")})
        return rles

    assert ours() == theirs()
    return Row(f"masks {size[0]}x{size[1]}", *turns(rounds, ours, theirs), floor)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add_options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure_masks((480, 640), 2.0, args.rounds),
        measure_masks((1080, 1920), 5.0, args.rounds),
    ]
    return report(rows, args)


if __name__ == "__main__":
    sys.exit(main())
