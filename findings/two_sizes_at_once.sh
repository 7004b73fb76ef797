#!/usr/bin/env bash
# pycocotools 2.0.11: an object of exactly 32 x 32 (or 96 x 96) pixels counts in two size ranges, since both ends of
# each belong to it; faster-coco-eval 1.8.0 and hotcoco 1.3.0 do the same.
#
# Expected: every object is small, medium or large.
# Seen: one object of 32 x 32, found exactly: APs 1.0 and APm 1.0; one of 96 x 96: APm 1.0 and APl 1.0.
# Who is hurt: sets with boxes of fixed sizes, as drawn or made from points: AP by size then mixes two ranges.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib, io, json, sys

import faster_coco_eval, hotcoco, pycocotools.coco, pycocotools.cocoeval


def by_size(coco_class, eval_class, side):
    box = [10, 10, side, side]
    truth = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": side * side, "iscrowd": 0}],
    }
    rows = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}]
    for name, content in (("truth", truth), ("rows", rows)):
        with open(f"{name}.json", "w") as file:
            json.dump(content, file)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class("truth.json")
        run = eval_class(coco, coco.loadRes("rows.json"), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return tuple(round(float(value), 3) for value in run.stats[3:6])


evaluators = {
    "pycocotools": (pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    "hotcoco": (hotcoco.COCO, hotcoco.COCOeval),
}
found = {name: (by_size(*pair, 32), by_size(*pair, 96)) for name, pair in evaluators.items()}
print(found)
sys.exit(found != dict.fromkeys(evaluators, ((1.0, 1.0, -1.0), (-1.0, 1.0, 1.0))))
PYTHON
