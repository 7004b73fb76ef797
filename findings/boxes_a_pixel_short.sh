#!/usr/bin/env bash
# SAHI 0.12.8: of a detection with a mask the box is thrown away and taken from a polygon through the centres of the mask's
# border pixels, which ends a pixel before the mask does; so do the area and the rows that are written for COCO.
#
# Expected: a mask of 10 x 10 pixels with its box of 10 x 10 is written as a row of that box and 100 pixels.
# Seen: a box of 9 x 9 and a polygon of 81 pixels: IoU 0.81 with the detection itself, no match from 0.85 on. A mask of
# 4 x 4 becomes 3 x 3 (0.56), one of 2 x 2 a single pixel (0.25), no match at any threshold.
# Who is hurt: every model with masks that is evaluated through SAHI's `predict`, in small objects most, which it is for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check sahi==0.12.8 opencv-python==5.0.0.93 pycocotools==2.0.11
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
from pycocotools import mask as coco_mask
from sahi.prediction import ObjectPrediction
from sahi.utils.cv import get_coco_segmentation_from_bool_mask  # which SAHI's own models call


def written(side):
    """Box, area and drawn pixels of the row of a square mask, and its IoU with that mask."""
    mask = np.zeros((40, 40), bool)
    mask[10 : 10 + side, 10 : 10 + side] = True
    found = ObjectPrediction(
        bbox=[10, 10, 10 + side, 10 + side],
        segmentation=get_coco_segmentation_from_bool_mask(mask),
        category_id=1,
        score=0.9,
        full_shape=[40, 40],
    )
    row = found.to_coco_prediction(image_id=1).json
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], 40, 40))).astype(bool)
    iou = (drawn & mask).sum() / (drawn | mask).sum()
    return row["bbox"], row["area"], int(drawn.sum()), round(float(iou), 2)


seen = [written(side) for side in (10, 4, 2)]
print(*seen, sep="\n")
sys.exit(seen != [([10, 10, 9, 9], 81, 81, 0.81), ([10, 10, 3, 3], 9, 9, 0.56), ([10, 10, 1, 1], 1, 1, 0.25)])
PYTHON
