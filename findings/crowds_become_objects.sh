#!/usr/bin/env bash
# globox 2.9.0: a crowd of COCO (`iscrowd` 1), in which detections are neither right nor wrong, becomes an object like any
# other: in files that are written, and in globox's own COCO evaluation.
#
# Expected: the numbers of pycocotools 2.0.11 for the same files; no row of YOLO for a crowd, or a mark on it.
# Seen: an object found exactly and a detection inside a crowd: AP 1.0 in pycocotools, 0.252 in globox, which misses the
# crowd and takes that detection for a false alarm. YOLO's file has two objects.
# Who is hurt: COCO itself has crowds of persons, cars and more: lower numbers, and training on boxes around whole groups.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check globox==2.9.0 pycocotools==2.0.11
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib, io, json, sys
from pathlib import Path

import numpy as np
from globox import AnnotationSet, COCOEvaluator
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

pixels = np.zeros((100, 200), np.uint8, order="F")
pixels[10:90, 100:180] = 1
crowd = {"size": [100, 200], "counts": mask.encode(pixels)["counts"].decode()}
common = {"image_id": 1, "category_id": 1}
truth = {
    "images": [{"id": 1, "file_name": "1.png", "width": 200, "height": 100}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {**common, "id": 1, "bbox": [10, 10, 50, 20], "area": 1000, "iscrowd": 0},
        {**common, "id": 2, "bbox": [100, 10, 80, 80], "area": 6400, "iscrowd": 1, "segmentation": crowd},
    ],
}
rows = [
    {**common, "bbox": [10, 10, 50, 20], "score": 0.9},
    {**common, "bbox": [110, 20, 20, 40], "score": 0.95},
]
for name, content in (("truth", truth), ("rows", rows)):
    Path(f"{name}.json").write_text(json.dumps(content))
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO("truth.json")
    run = COCOeval(coco, coco.loadRes("rows.json"), "bbox")
    run.evaluate(), run.accumulate(), run.summarize()
data = AnnotationSet.from_coco(Path("truth.json"))
other = COCOEvaluator(ground_truths=data, predictions=data.from_results(Path("rows.json"))).ap()
data.save_yolo_v5(Path("labels"), label_to_id={"cat": 0})
written = Path("labels/1.txt").read_text().splitlines()
seen = round(float(run.stats[0]), 3), round(float(other), 3), written
print(seen)
sys.exit(seen != (1.0, 0.252, ["0 0.175 0.2 0.25 0.2", "0 0.7 0.5 0.4 0.8"]))
PYTHON
