#!/usr/bin/env bash
# OpenCV 5.0.0.93: `NMSBoxesBatched`, suppression by class, lets a box of one class fall to a box of another, far away one,
# where boxes reach beyond the picture's left upper corner: classes are moved apart by the largest coordinate only.
#
# Expected: boxes of two classes, 57 pixels apart, both stay, whatever their coordinates.
# Seen: [-39, -39, 3, 3] of class 1 falls to [60, 60, 100, 100] of class 0. With `NMSBoxes`, classes thrown together, both
# stay; and so they do with both boxes moved by 39 pixels. (torchvision's `batched_nms` does the same, but says that it
# wants no negative coordinates.)
# Who is hurt: detectors whose boxes are not clipped: an object at the edge is missed, in silence, and whether it is depends
# on what else is in the picture.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import cv2

SCORES, CLASSES = [0.9, 0.8], [0, 1]


def boxes(shift):
    """Of 40 x 40 and 42 x 42, as left, top, width, height."""
    return [[60 + shift, 60 + shift, 40, 40], [-39 + shift, -39 + shift, 42, 42]]


seen = {
    "by class": cv2.dnn.NMSBoxesBatched(boxes(0), SCORES, CLASSES, 0.1, 0.5),
    "moved": cv2.dnn.NMSBoxesBatched(boxes(39), SCORES, CLASSES, 0.1, 0.5),
    "without classes": cv2.dnn.NMSBoxes(boxes(0), SCORES, 0.1, 0.5),
}
seen = {name: [int(index) for index in kept] for name, kept in seen.items()}
print(seen)
sys.exit(seen != {"by class": [0], "moved": [0, 1], "without classes": [0, 1]})
PYTHON
