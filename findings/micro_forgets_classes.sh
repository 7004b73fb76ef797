#!/usr/bin/env bash
# torchmetrics 1.9.0: `MeanAveragePrecision(average="micro")` makes all labels one before it matches boxes: a detection of
# the wrong class counts as right.
#
# Expected: matches within each class, then one mean over all objects: a cat that is called a dog is missed.
# Seen: one object, found exactly but as another class: AP 0.0 with "macro", 1.0 with "micro". The docstring names
# the two and says no more.
# Who is hurt: whoever takes "micro" for sets of rare classes, as in classification: it says nothing of classes at all.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.14.1 torchvision==0.29.1 \
    pycocotools==2.0.11
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torchmetrics.detection import MeanAveragePrecision

BOX, CAT, DOG = torch.tensor([[10.0, 10, 60, 30]]), torch.tensor([0]), torch.tensor([1])


def ap(average, label):
    """Of a cat that is found exactly, and called `label`."""
    metric = MeanAveragePrecision(average=average)
    metric.update([{"boxes": BOX, "scores": torch.tensor([0.9]), "labels": label}], [{"boxes": BOX, "labels": CAT}])
    return round(float(metric.compute()["map"]), 3)


seen = {average: (ap(average, CAT), ap(average, DOG)) for average in ("macro", "micro")}
print(seen)
sys.exit(seen != {"macro": (1.0, 0.0), "micro": (1.0, 1.0)})
PYTHON
