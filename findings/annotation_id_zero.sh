#!/usr/bin/env bash
# globox 2.9.0 and pycocotools 2.0.11: `save_coco(auto_ids=True)` numbers annotations from 0, and pycocotools takes
# a match with annotation 0 for no match: that object is missed, and its detection is a false alarm.
#
# Expected: a data set that globox wrote, with the same boxes as detections, has AP 1.
# Seen: ids 0 and 1; AP 0.252, AR 0.5. Numbered from 1: AP 1.0. With one object in the data set AP is 0.
# Who is hurt: whoever brings YOLO or VOC labels to COCO's JSON this way; one object of the set is always lost.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check globox==2.9.0 pycocotools==2.0.11
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib, io, json, sys
from pathlib import Path

from globox import AnnotationSet
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

box = {"bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0, "category_id": 1}
given = {
    "images": [{"id": k, "file_name": f"{k}.jpg", "width": 200, "height": 200} for k in (1, 2)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, **box}, {"id": 2, "image_id": 2, **box}],
}
Path("given.json").write_text(json.dumps(given))
AnnotationSet.from_coco(Path("given.json")).save_coco(Path("written.json"), auto_ids=True)
written = json.loads(Path("written.json").read_text())


def stats(truth):
    Path("truth.json").write_text(json.dumps(truth))
    rows = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in truth["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO("truth.json")
        run = COCOeval(coco, coco.loadRes(rows), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return round(float(run.stats[0]), 3), round(float(run.stats[8]), 3)


ids = sorted(a["id"] for a in written["annotations"])
as_written = stats(written)
from_one = stats({**written, "annotations": [{**a, "id": a["id"] + 1} for a in written["annotations"]]})
print(ids, as_written, from_one)
sys.exit((ids, as_written, from_one) != ([0, 1], (0.252, 0.5), (1.0, 1.0)))
PYTHON
