#!/usr/bin/env bash
# kornia 0.9.0: one box, handed to `AugmentationSequential` as `bbox_xyxy` and as `bbox_xywh`, comes back as two boxes. The
# first key takes corners for centres of pixels that still belong to the object, the second for edges.
#
# Expected: of an object that fills columns 10 to 29 of 60 and rows 5 to 14 of 40 the box is 10, 5, 30, 15, as width and
# height 10, 5, 20, 10; flipped, it fills columns 30 to 49: 30, 5, 50, 15, as the image and the mask beside it show.
# Seen: `bbox_xywh` is right, `bbox_xyxy` is 29, 5, 49, 15. (The class's documentation says that boxes are "inclusive" and
# that a flip takes x to W - 1 - x for every key; of `Boxes`, mode "xyxy" is exclusive.) Resized to the double, both are
# beside the object, since corners go by 119 / 59 and 79 / 39: 20.17, 10.13 and 60.51, 30.38 or 59.49, 29.36 for 20, 10
# and 60, 30.
# Who is hurt: detectors whose boxes are those of torchvision or COCO train on boxes a pixel off in half of the pictures,
# in silence; of an object of 8 x 8 pixels that is an IoU of 0.78.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check kornia==0.9.0 torch==2.14.1
cat >"$work/show.py" <<'PYTHON'
import sys

import kornia.augmentation as K
import torch

mask = torch.zeros(1, 1, 40, 60)
mask[..., 5:15, 10:30] = 1
corners, sides = torch.tensor([[[10.0, 5, 30, 15]]]), torch.tensor([[[10.0, 5, 20, 10]]])


def extent(picture):
    rows, columns = torch.where(picture[0, 0] > 0.5)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


seen = {}
for name, augmentation in {"flip": K.RandomHorizontalFlip(p=1.0), "double": K.Resize((80, 120))}.items():
    keys = ["input", "mask", "bbox_xyxy", "bbox_xywh"]
    image, moved, xyxy, xywh = K.AugmentationSequential(augmentation, data_keys=keys)(
        mask.repeat(1, 3, 1, 1), mask, corners, sides
    )
    xywh = torch.cat((xywh[..., :2], xywh[..., :2] + xywh[..., 2:]), -1)
    boxes = [[round(value, 2) for value in box.flatten().tolist()] for box in (xyxy, xywh)]
    seen[name] = [extent(image), extent(moved), *boxes]
    print(name, *seen[name])
sys.exit(
    seen
    != {
        "flip": [[30, 5, 50, 15], [30, 5, 50, 15], [29.0, 5.0, 49.0, 15.0], [30.0, 5.0, 50.0, 15.0]],
        "double": [[20, 10, 60, 30], [20, 10, 60, 30], [20.17, 10.13, 60.51, 30.38], [20.17, 10.13, 59.49, 29.36]],
    }
)
PYTHON
"$work/venv/bin/python" "$work/show.py"
