#!/usr/bin/env bash
# pycocotools 2.0.11, faster-coco-eval 1.8.0 and hotcoco 1.3.0 on annotations without `area`: three answers.
#
# Expected: the same from all, an error or the box's area.
# Seen: a box of 50 x 50, found exactly. pycocotools: KeyError. hotcoco: a medium object (APs none, APm 1).
# faster-coco-eval: a small one (APs 1, APm none), in silence.
# Who is hurt: own data whose tool leaves `area` out; large objects are then reported as small ones.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib, io, json, sys

import faster_coco_eval, hotcoco, pycocotools.coco, pycocotools.cocoeval

truth = {
    "images": [{"id": 1, "file_name": "1.jpg", "width": 200, "height": 200}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "iscrowd": 0}],
}
rows = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "score": 0.9}]
for name, content in (("truth", truth), ("rows", rows)):
    with open(f"{name}.json", "w") as file:
        json.dump(content, file)


def by_size(coco_class, eval_class):
    """AP of small, medium and large objects; -1 where there is none."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = coco_class("truth.json")
            run = eval_class(coco, coco.loadRes("rows.json"), "bbox")
            run.evaluate(), run.accumulate(), run.summarize()
    except KeyError as error:
        return f"KeyError {error}"
    return tuple(round(float(value), 3) for value in run.stats[3:6])


found = {
    "pycocotools": by_size(pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster-coco-eval": by_size(faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    "hotcoco": by_size(hotcoco.COCO, hotcoco.COCOeval),
}
print(found)
expected = {"pycocotools": "KeyError 'area'", "faster-coco-eval": (1.0, -1.0, -1.0), "hotcoco": (-1.0, 1.0, -1.0)}
sys.exit(found != expected)
PYTHON
