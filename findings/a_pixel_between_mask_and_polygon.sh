#!/usr/bin/env bash
# supervision 0.31.2: masks and polygons differ by a row and a column of pixels. A polygon of 20 x 20 becomes a mask of
# 21 x 21, its last points drawn too; a mask of 20 x 20 becomes a polygon of 19 x 19, through its border pixels' centres.
#
# Expected: 400 pixels, as pycocotools 2.0.11 draws that polygon; and boxes that come back through YOLO's format up to
# the five digits that are written.
# Seen: 441 pixels; a run-length mask of 20 x 20 comes back as a box of 19 x 19 (IoU 0.9025 with itself: no match at
# 0.95). The same box without a mask comes back exactly.
# Who is hurt: small objects, most of all: labels that are too small after a conversion, and mask IoUs against pycocotools.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 opencv-python-headless==5.0.0.93 \
    pycocotools==2.0.11
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import json, sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")
import numpy as np
import supervision as sv
from PIL import Image
from pycocotools import mask as coco_mask

Path("images").mkdir()
Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save("images/a.png")
POLYGON = [[50, 50, 70, 50, 70, 70, 50, 70]]
pixels = np.zeros((100, 200), np.uint8, order="F")
pixels[50:70, 50:70] = 1
runs = np.diff(np.flatnonzero(np.diff(pixels.flatten(order="F"), prepend=0, append=2)), prepend=0)
RLE = {"size": [100, 200], "counts": runs.tolist()}


def read(segmentation, crowd=0):
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [50, 50, 20, 20], "area": 400, "iscrowd": crowd}
    images = [{"id": 1, "file_name": "a.png", "width": 200, "height": 100}]
    categories = [{"id": 1, "name": "cat"}]
    coco = {"images": images, "categories": categories, "annotations": [{**row, "segmentation": segmentation}]}
    Path("coco.json").write_text(json.dumps(coco))
    return sv.DetectionDataset.from_coco("images", "coco.json")


def there_and_back(name, data):
    data.as_yolo(annotations_directory_path=name, data_yaml_path=f"{name}.yaml")
    (found,) = sv.DetectionDataset.from_yolo("images", name, f"{name}.yaml").annotations.values()
    return found.xyxy.round(2).tolist()


(drawn,) = read(POLYGON).annotations.values()
areas = int(drawn.mask.sum()), int(coco_mask.area(coco_mask.frPyObjects(POLYGON, 100, 200))[0])
boxes = there_and_back("mask", read(RLE, crowd=1)), there_and_back("box", read([]))
print(areas, boxes)
sys.exit((areas, boxes) != ((441, 400), ([[50.0, 50.0, 69.0, 69.0]], [[50.0, 50.0, 70.0, 70.0]])))
PYTHON
