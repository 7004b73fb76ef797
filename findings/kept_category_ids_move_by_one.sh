#!/usr/bin/env bash
# datumaro 1.13.12: COCO categories read with `keep_original_category_ids=True` are written with ids one higher.
#
# Expected: "cat" of id 17 and "dog" of id 18, read so and written as COCO's JSON again, are 17 and 18. Without the option
# they are numbered from 1, as its default says.
# Seen: 18 and 19, in categories and annotations alike, beside 17 made-up classes that fill the ids below. Ids of pictures
# and annotations stay.
# Who is hurt: results with COCO's ids, such as those of any detector trained there, are compared with the next class: here
# each dog counts as a cat, and pycocotools gives AP 0 for the very boxes of the annotations.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datumaro==1.13.12 pycocotools==2.0.11 pillow
cd "$work"
cat >show.py <<'PYTHON'
import contextlib
import io
import json
import sys
from pathlib import Path

import datumaro
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

names = {17: "cat", 18: "dog"}
boxes = {17: [10, 5, 20, 10], 18: [30, 20, 10, 20]}
given = {
    "images": [{"id": 7, "file_name": "a.png", "width": 60, "height": 40}],
    "categories": [{"id": id, "name": name} for id, name in names.items()],
    "annotations": [
        {"id": id, "image_id": 7, "category_id": id, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for id, box in boxes.items()
    ],
}
for folder in ("set/images/val", "set/annotations"):
    Path(folder).mkdir(parents=True)
Image.new("RGB", (60, 40)).save("set/images/val/a.png")
Path("set/annotations/instances_val.json").write_text(json.dumps(given))
results = [{"image_id": 7, "category_id": id, "bbox": box, "score": 1.0} for id, box in boxes.items()]


def average_precision(path):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return round(float(evaluation.stats[0]), 3)


seen = {"given": (names, [17, 18], average_precision("set/annotations/instances_val.json"))}
for kept in (False, True):
    read = datumaro.Dataset.import_from("set", "coco_instances", keep_original_category_ids=kept)
    read.export(f"written-{kept}", "coco_instances")
    path = f"written-{kept}/annotations/instances_val.json"
    written = json.loads(Path(path).read_text())
    ids = {one["id"]: one["name"] for one in written["categories"] if one["name"] in names.values()}
    used = sorted(one["category_id"] for one in written["annotations"])
    seen[f"kept: {kept}"] = ids, used, average_precision(path)
for case, values in seen.items():
    print(case, *values)
right = {
    "given": ({17: "cat", 18: "dog"}, [17, 18], 1.0),
    "kept: False": ({1: "cat", 2: "dog"}, [1, 2], 0.0),
    "kept: True": ({18: "cat", 19: "dog"}, [18, 19], 0.0),
}
sys.exit(seen != right)
PYTHON
"$work/venv/bin/python" show.py
