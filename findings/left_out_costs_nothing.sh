#!/usr/bin/env bash
# torchmetrics 1.9.0: to `PanopticQuality` pixels that a prediction gives to nothing are as void ones of the ground truth:
# what it leaves out costs nothing.
#
# Expected: of an object of 50 pixels 30 are found and 20 belong to nothing: its IoU is 0.6, and so is its quality; an object
# that is not found at all is a miss, so that of two objects, one found, the quality is 1 / (1 + 1/2) = 0.667. hotcoco 1.3.0,
# which follows panopticapi, says so. Only the ground truth's void pixels are taken out of the union.
# Seen: 1.0 in both cases. The rule for void pixels of the ground truth is applied the other way round, too.
# Who is hurt: every method that leaves pixels free, as a panoptic FPN does with small areas of stuff and with overlapping
# objects: its PQ is too high, and beats that of a method which guesses.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.14.1 hotcoco==1.3.0 pillow==13.0.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import json
from pathlib import Path

import numpy as np
import torch
from hotcoco.panoptic import pq_compute
from PIL import Image
from torchmetrics.detection import PanopticQuality

CATEGORIES = [{"id": 1, "name": "cat", "isthing": 1}]
NOTHING = 0


def by_torchmetrics(found, truth):
    """Both are (H, W) with the number of the object, all of them cats."""
    metric = PanopticQuality(things={1}, stuffs={6}, allow_unknown_preds_category=True, return_per_class=True)
    pictures = (torch.stack([torch.from_numpy(np.where(ids, 1, 99)), torch.from_numpy(ids)], -1)[None] for ids in (found, truth))
    return float(metric(*pictures)[0, 0])


def by_hotcoco(found, truth):
    files = []
    for name, ids in (("found", found), ("truth", truth)):
        Path(name).mkdir(exist_ok=True)
        Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], -1).astype(np.uint8)).save(f"{name}/1.png")
        segments = [
            {"id": int(k), "category_id": 1, "iscrowd": 0, "area": int((ids == k).sum()), "bbox": [0, 0, 10, 10]}
            for k in np.unique(ids[ids != NOTHING])
        ]
        files.append(Path(f"{name}.json"))
        rows = {"annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}]}
        images = [{"id": 1, "file_name": "1.jpg", "width": 10, "height": 10}]
        files[-1].write_text(json.dumps({**rows, "images": images, "categories": CATEGORIES}))
    return pq_compute(str(files[1]), str(files[0]))["All"]["pq"]


truth = np.full((10, 10), 2, np.int64)
truth[:, :5] = 1  # two cats, left and right
part, one = truth.copy(), truth.copy()
part[:4, :5] = part[:4, 5:] = NOTHING
one[:, 5:] = NOTHING
for name, found, expected in (("a part of each", part, 0.6), ("one of two", one, 2 / 3)):
    seen, peer = by_torchmetrics(found, truth), by_hotcoco(found, truth)
    print(f"{name} left out: torchmetrics {seen:.3f}, hotcoco {peer:.3f}")
    assert abs(peer - expected) < 1e-6
    assert seen == 1
PYTHON
