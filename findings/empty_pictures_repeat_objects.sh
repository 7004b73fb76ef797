#!/usr/bin/env bash
# pylabel 0.1.55: `ExportToCoco` writes an object once more for each picture without objects that follows it.
#
# Expected: a data set read from COCO and written as COCO has as many objects as before.
# Seen: one object and two pictures without any, in that order: three rows, all of one id, picture and box.
# Who is hurt: sets with background pictures: objects count several times in training, and one detection
# finds but one of the copies.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pylabel==0.1.55 pandas==2.3.3
cd "$work"
HOME=$work "$work/venv/bin/python" -W ignore - <<'PYTHON'
import json, sys
from pathlib import Path

from pylabel import importer

object_ = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 20], "area": 1000, "iscrowd": 0}
given = {
    "images": [{"id": k, "file_name": f"{k}.png", "width": 200, "height": 100} for k in (1, 2, 3)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{**object_, "segmentation": []}],
}
Path("given.json").write_text(json.dumps(given))
data = importer.ImportCoco("given.json", path_to_images=".", name="set")
data.export.ExportToCoco(output_path="written.json", cat_id_index=1)
written = json.loads(Path("written.json").read_text())
rows = [(row["id"], row["image_id"], row["bbox"]) for row in written["annotations"]]
print(len(written["images"]), "pictures,", rows)
sys.exit(len(written["images"]) != 3 or rows != [(0, 1, [10.0, 10.0, 50.0, 20.0])] * 3)
PYTHON
