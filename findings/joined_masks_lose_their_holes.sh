#!/usr/bin/env bash
# SAHI 0.12.8: a mask with a hole, seen in two slices, is joined to one without the hole; in rows for COCO the hole is gone
# in any case, while the `area` beside belongs to a mask with one.
#
# Expected: the union of a mask with itself is that mask, 84 pixels; a row's area is that of its segmentation.
# Seen: 100 pixels once joined; a row of a single mask has `area` 58 beside a polygon of 81 pixels.
# Who is hurt: masks of rings, arches, whatever is seen through: where slices overlap their holes become object, and
# those who count area find two answers in one row.
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
from sahi.postprocess.combine import GreedyNMMPostprocess
from sahi.prediction import ObjectPrediction
from sahi.utils.cv import get_coco_segmentation_from_bool_mask  # which SAHI's own models call

mask = np.zeros((40, 40), bool)
mask[10:20, 10:20] = True
mask[13:17, 13:17] = False
polygons = get_coco_segmentation_from_bool_mask(mask)
twice = [
    ObjectPrediction(segmentation=polygons, category_id=1, score=score, full_shape=[40, 40]) for score in (0.9, 0.8)
]
alone = int(twice[0].mask.bool_mask.sum())
row = twice[0].to_coco_prediction(image_id=1).json
drawn = int(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], 40, 40))))
(joined,) = GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS")(twice)  # get_sliced_prediction's default
pixels = int(joined.mask.bool_mask.sum())
print("mask", int(mask.sum()), "alone", alone, "joined", pixels, "row: area", row["area"], "drawn", drawn)
sys.exit((alone, pixels, row["area"], drawn) != (84, 100, 58, 81))
PYTHON
