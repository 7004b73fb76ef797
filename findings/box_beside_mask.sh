#!/usr/bin/env bash
# pycocotools 2.0.11: a `bbox` beside the `segmentation` of a result changes the mask APs by size: `loadRes` takes the
# area of the box for that of the mask, and gives the rows it was handed new keys.
#
# Expected: for "segm" only masks count.
# Seen: masks of 60 x 10 pixels, one right and one false alarm before it. APs is 0.5 without `bbox`, 1.0 with boxes
# of 60 x 60: the false alarm is then no small object. AP itself stays.
# Who is hurt: two programs that write the same masks, one with boxes, get different APs, APm and APl.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib, io, json, sys

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def flat(x, y):
    pixels = np.zeros((200, 200), np.uint8, order="F")
    pixels[y : y + 10, x : x + 60] = 1
    encoded = mask.encode(pixels)
    return {"size": [200, 200], "counts": encoded["counts"].decode()}


common = {"image_id": 1, "category_id": 1}
truth = {
    "images": [{"id": 1, "file_name": "1.jpg", "width": 200, "height": 200}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{**common, "id": 1, "bbox": [10, 10, 60, 10], "area": 600, "iscrowd": 0, "segmentation": flat(10, 10)}],
}
with open("truth.json", "w") as file:
    json.dump(truth, file)


def sizes(boxes):
    rows = [{**common, "segmentation": flat(10, 10), "score": 0.9}, {**common, "segmentation": flat(100, 100), "score": 0.95}]
    if boxes:
        rows[0]["bbox"], rows[1]["bbox"] = [10, 10, 60, 60], [100, 100, 60, 60]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO("truth.json")
        run = COCOeval(coco, coco.loadRes(rows), "segm")
        run.evaluate(), run.accumulate(), run.summarize()
    return round(float(run.stats[0]), 3), round(float(run.stats[3]), 3), "area" in rows[0]


found = sizes(False), sizes(True)
print(found)
sys.exit(found != ((0.5, 0.5, True), (0.5, 1.0, True)))
PYTHON
