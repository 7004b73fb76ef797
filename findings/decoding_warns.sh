#!/usr/bin/env bash
# pycocotools 2.0.11: with numpy 2, decoding a mask warns of something only the library itself can change.
#
# Expected: `mask.decode` of a row that `mask.encode` has just made says nothing, like the other functions.
# Seen: a DeprecationWarning of numpy's on `__array__` and its `copy`; the array is right. `COCO.annToMask` gives it, too.
# Who is hurt: test suites that treat warnings as errors stop in the middle of a valid mask; numpy says that the call
# "will" fail one day.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import sys
import warnings

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO

pixels = np.zeros((8, 10), np.uint8, order="F")
pixels[2:5, 2:6] = 1
row = mask.encode(pixels)
annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [2, 2, 4, 3], "area": 12}
annotation["segmentation"] = [[2, 2, 6, 2, 6, 5, 2, 5]]
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO()
    coco.dataset = {
        "images": [{"id": 1, "height": 8, "width": 10}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "a"}],
    }
    coco.createIndex()
calls = {
    "encode": lambda: mask.encode(pixels),
    "area": lambda: mask.area(row),
    "toBbox": lambda: mask.toBbox(row),
    "merge": lambda: mask.merge([row, row]),
    "iou": lambda: mask.iou([row], [row], [0]),
    "annToRLE": lambda: coco.annToRLE(annotation),
    "decode": lambda: mask.decode(row),
    "annToMask": lambda: coco.annToMask(annotation),
}
warned = []
for name, call in calls.items():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        value = call()
    print(name, [f"{w.category.__name__}: {str(w.message)[:60]}" for w in told])
    if any(issubclass(w.category, DeprecationWarning) and "__array__" in str(w.message) for w in told):
        assert (value == pixels).all()
        warned.append(name)
sys.exit(warned != ["decode", "annToMask"])
PYTHON
