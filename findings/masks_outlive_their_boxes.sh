#!/usr/bin/env bash
# albumentations 2.0.8: `masks` and `bboxes` come back with different lengths when a box leaves the picture.
#
# Expected: an object that is cut off goes with its box, label and mask.
# Seen: of two objects one stays after a crop: 1 box, 1 label, 2 masks, the first of them empty. Zipped, the box of
# the second object stands beside the empty mask of the first.
# Who is hurt: instance segmentation trains on wrong pairs, in silence. (Labels that are passed as `label_fields`,
# such as the objects' numbers, tell which masks to keep.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check albumentations==2.0.8
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import os, sys

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A
import numpy as np

masks = [np.zeros((100, 100), np.uint8) for _ in range(2)]
masks[0][10:20, 10:20] = 1
masks[1][60:90, 60:90] = 1
boxes = A.BboxParams(format="coco", label_fields=["labels"])
crop = A.Compose([A.Crop(50, 50, 100, 100)], bbox_params=boxes)
image = np.zeros((100, 100, 3), np.uint8)
found = crop(image=image, masks=masks, bboxes=[[10, 10, 10, 10], [60, 60, 30, 30]], labels=[1, 2])
seen = [int(label) for label in found["labels"]], len(found["bboxes"]), [int(mask.sum()) for mask in found["masks"]]
print(seen)
sys.exit(seen != ([2], 1, [0, 900]))
PYTHON
