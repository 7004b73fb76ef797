#!/usr/bin/env bash
# pycocotools 2.0.11, faster-coco-eval 1.8.0 and hotcoco 1.3.0 on annotation ids that start again in each picture.
#
# Expected: AP 1, as no metric is defined by these ids; or an error; at least one answer from all.
# Seen: two pictures with one object each, both of id 1, both found exactly. AP 0.252 (pycocotools, faster-coco-eval,
# without a word: the first object is forgotten) and 1.0 (hotcoco, with a note).
# Who is hurt: whoever compares numbers of two evaluators on a set whose converter counts per picture.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib, io, json, sys, warnings

warnings.simplefilter("ignore")
import faster_coco_eval, hotcoco, pycocotools.coco, pycocotools.cocoeval

box = {"id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0, "category_id": 1}
truth = {
    "images": [{"id": k, "file_name": f"{k}.jpg", "width": 200, "height": 200} for k in (1, 2)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"image_id": 1, **box}, {"image_id": 2, **box}],
}
rows = [{"image_id": k, "category_id": 1, "bbox": [10, 10, 50, 50], "score": 0.9} for k in (1, 2)]
for name, content in (("truth", truth), ("rows", rows)):
    with open(f"{name}.json", "w") as file:
        json.dump(content, file)


def ap(coco_class, eval_class):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class("truth.json")
        run = eval_class(coco, coco.loadRes("rows.json"), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return round(float(run.stats[0]), 3)


found = {
    "pycocotools": ap(pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster-coco-eval": ap(faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    "hotcoco": ap(hotcoco.COCO, hotcoco.COCOeval),
}
print(found)
sys.exit(found != {"pycocotools": 0.252, "faster-coco-eval": 0.252, "hotcoco": 1.0})
PYTHON
