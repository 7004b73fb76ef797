#!/usr/bin/env bash
# fiftyone 1.22.1: a mask in a box of whole pixels, which are stored as fractions of the picture, may come back shifted, wider
# or empty, since pixels are found by cutting off what is left of width * fraction, and 49 * (1 / 49) is less than 1.
#
# Expected: a mask of pixels 1 to 10 of a picture 49 pixels wide comes back as that; so does one of a single pixel.
# Seen: pixels 0 to 10; and of the 5050 single pixels in widths up to 100, 621 come back as no pixel or another one.
# Who is hurt: whoever scores or exports masks through FiftyOne: small objects lose IoU, in pictures of some sizes only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check fiftyone==1.22.1
cd "$work"
HOME=$work FIFTYONE_DO_NOT_TRACK=true "$work/venv/bin/python" - <<'PYTHON'
import sys

import fiftyone
import numpy as np


def columns(width, first, count):
    box = [first / width, 0.0, count / width, 1.0]
    found = fiftyone.Detection(label="cat", bounding_box=box, mask=np.ones((1, count), bool))
    mask = found.to_segmentation(frame_size=(width, 1), target=1).mask
    return np.flatnonzero(mask[0]).tolist()


wide = columns(49, 1, 10)
pairs = [(width, first) for width in range(1, 101) for first in range(width)]
lost = [pair for pair in pairs if columns(*pair, 1) != [pair[1]]]
print("pixels 1 to 10 of 49:", wide, "; single pixels that moved or vanished:", len(lost), "of", len(pairs))
sys.exit(wide != list(range(11)) or len(lost) != 621)
PYTHON
