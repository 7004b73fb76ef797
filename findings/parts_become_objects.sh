#!/usr/bin/env bash
# labelme2coco 0.2.6: the parts of one object become several objects: `group_id`, by which labelme says that shapes
# belong together, is not read.
#
# Expected: two polygons with one label and one group_id are one annotation with two polygons.
# Seen: two annotations of half the area each.
# Who is hurt: objects behind a post or a wheel's two visible halves count twice, in training and in recall.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check labelme2coco==0.2.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import json, logging, sys
from pathlib import Path

import cv2
import labelme2coco
import numpy as np

logging.disable(logging.CRITICAL)
Path("labels").mkdir()
cv2.imwrite("labels/a.png", np.zeros((100, 200, 3), np.uint8))
common = {"label": "car", "group_id": 1, "shape_type": "polygon", "flags": {}, "description": ""}
shapes = [{**common, "points": [[x, 10], [x + 20, 10], [x + 20, 50], [x, 50]]} for x in (10, 60)]
document = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "a.png", "imageData": None}
Path("labels/a.json").write_text(json.dumps({**document, "imageHeight": 100, "imageWidth": 200}))
labelme2coco.convert("labels", "coco")
annotations = json.loads(Path("coco/dataset.json").read_text())["annotations"]
found = [(row["bbox"], len(row["segmentation"])) for row in annotations]
print(found)
sys.exit(found != [([10.0, 10.0, 20.0, 40.0], 1), ([60.0, 10.0, 20.0, 40.0], 1)])
PYTHON
