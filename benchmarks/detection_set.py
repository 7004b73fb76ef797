"""A drawn set of detections at COCO's scale, for the speed of evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Json = dict[str, Any]

_SHAPES, _NEAR_MISSES = 60, 5  # masks are taken from a pool: encoding 500,000 would outlast the benchmark
_CATEGORIES = 80
_DETECTIONS = 100  # in each image
_NEAR = 0.4  # of the detections lie near an object


def detection_set(images: int, seed: int = 0) -> tuple[Json, list[Json]]:
    """Ground truth and result rows: some seven objects and 100 detections in each image of 480 x 640."""
    rng = np.random.Generator(np.random.PCG64(seed))
    pool = [_relatives(rng) for _ in range(_SHAPES)]
    frequency = np.arange(1, _CATEGORIES + 1) ** -0.9  # some categories are far more frequent than others
    frequency /= frequency.sum()

    def draw() -> tuple[int, int]:
        return int(rng.integers(_SHAPES)), 1 + int(rng.choice(_CATEGORIES, p=frequency))

    annotations: list[Json] = []
    rows: list[Json] = []
    for image_id in range(1, images + 1):
        there = [draw() for _ in range(1 + rng.poisson(6.3))]
        for shape, category in there:
            row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
            annotations.append({**pool[shape][0], **row})
        for number in range(_DETECTIONS):
            near = rng.random() < _NEAR
            shape, category = there[number % len(there)] if near else draw()
            found = pool[shape][1 + int(rng.integers(_NEAR_MISSES))]
            score = float(rng.beta(2, 4 if near else 9))
            row = {"image_id": image_id, "category_id": category, "score": score}
            rows.append({**row, "bbox": found["bbox"], "segmentation": found["segmentation"]})
    truth = {
        "images": [{"id": i, "height": 480, "width": 640} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": str(k)} for k in range(1, _CATEGORIES + 1)],
    }
    return truth, rows


def _relatives(rng: np.random.Generator) -> list[Json]:
    """A wavy ellipse and near misses of it."""
    rows, columns = np.mgrid[:480, :640]
    y, x = rng.uniform(60, 420), rng.uniform(60, 580)
    height, width = rng.lognormal(3.4, 0.8, 2).clip(4, 200)
    waves = rng.uniform(0, 0.3)
    relatives = []
    for _ in range(1 + _NEAR_MISSES):
        dy = (rows - y - rng.normal(0, height / 8)) / height
        dx = (columns - x - rng.normal(0, width / 8)) / width
        inside = np.hypot(dy, dx) < 1 + waves * np.sin(5 * np.arctan2(dy, dx))
        rle = coco_mask.encode(np.asfortranarray(inside, dtype=np.uint8))
        mask = {"size": [480, 640], "counts": rle["counts"].decode()}
        box, area = coco_mask.toBbox(rle).tolist(), float(coco_mask.area(rle))
        relatives.append({"bbox": box, "area": area, "segmentation": mask})
    return relatives
