#!/usr/bin/env bash
# torch 2.14.1, torchvision 0.29.1: a program made by `torch.export` of `nms` refuses pictures in which one box stays.
#
# Expected: boxes of the same shape give the same answer as the module, however many of them overlap.
# Seen: the export succeeds and says nothing of it; three boxes on one another, of which one stays,
# end in "Runtime assertion failed for expression u0 >= 2".
# Who is hurt: exported detectors: they work on pictures with several objects and fail on the first with one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1
cat >"$work/show.py" <<'PYTHON'
import sys
import warnings

import torch
import torchvision


class Keep(torch.nn.Module):
    def forward(self, boxes, scores):
        return boxes[torchvision.ops.nms(boxes, scores, 0.5)]


apart = torch.tensor([[0.0, 0, 2, 2], [4, 4, 6, 6], [8, 8, 9, 9]])
pairs = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [8, 8, 9, 9]])
stacked = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
scores = torch.tensor([0.9, 0.8, 0.7])
net = Keep().eval()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    program = torch.export.export(net, (apart, scores)).module()
print("the export says", [str(w.message)[:80] for w in told])
answers = []
for boxes in (apart, pairs, stacked):
    kept = len(net(boxes, scores))
    try:
        answer = "same" if torch.equal(program(boxes, scores), net(boxes, scores)) else "other"
    except RuntimeError as error:
        answer = str(error).splitlines()[0]
    print(kept, "kept:", answer)
    answers.append((kept, answer if answer in ("same", "other") else "u0 >= 2" in answer))
sys.exit(answers != [(3, "same"), (2, "same"), (1, True)])
PYTHON
"$work/venv/bin/python" "$work/show.py"
