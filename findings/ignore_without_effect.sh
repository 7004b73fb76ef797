#!/usr/bin/env bash
# pycocotools 2.0.11: `ignore` of an annotation has no effect. COCOeval reads it and overwrites it with `iscrowd`
# in the next line; hotcoco 1.3.0 and faster-coco-eval 1.8.0 do the same.
#
# Expected: an object with `ignore: 1`, a key that converters such as globox 2.9.0 write, is neither to be found nor a
# mistake.
# Seen: with one object found and one ignored object not found, AP is 0.505 as without the key; with `iscrowd: 1` 1.0.
# Who is hurt: numbers on sets with objects that are to be ignored are too low, in silence.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib, io, json, sys

import faster_coco_eval, hotcoco, pycocotools.coco, pycocotools.cocoeval

rows = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "score": 0.9}]
with open("rows.json", "w") as file:
    json.dump(rows, file)


def ap(coco_class, eval_class, **second):
    common = {"image_id": 1, "category_id": 1, "area": 2500, "iscrowd": 0}
    truth = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {**common, "id": 1, "bbox": [10, 10, 50, 50]},
            {**common, "id": 2, "bbox": [100, 100, 50, 50], **second},
        ],
    }
    with open("truth.json", "w") as file:
        json.dump(truth, file)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class("truth.json")
        run = eval_class(coco, coco.loadRes("rows.json"), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return round(float(run.stats[0]), 3)


evaluators = {
    "pycocotools": (pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    "hotcoco": (hotcoco.COCO, hotcoco.COCOeval),
}
found = {name: (ap(*pair), ap(*pair, ignore=1), ap(*pair, iscrowd=1)) for name, pair in evaluators.items()}
print(found)
sys.exit(found != dict.fromkeys(evaluators, (0.505, 0.505, 1.0)))
PYTHON
