#!/usr/bin/env bash
# torch 2.14.1: the same net, exported twice by the same script with `torch.onnx.export`, gives two files of different bytes.
#
# Expected: equal bytes, as there are for the same net without `min`; the graph and its weights are equal.
# Seen: an address in the exporting process's memory ("<function sym_min at 0x7f...>") in the metadata of nodes.
# Who is hurt: caches, checksums and signatures of exported models: a file cannot be made again and compared.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2
cat >"$work/write.py" <<'PYTHON'
import sys

import torch


class Best(torch.nn.Module):
    def forward(self, scores):
        return scores.topk(min(3, scores.shape[0])).values


class All(torch.nn.Module):
    def forward(self, scores):
        return scores * scores.shape[0]


for net in (Best(), All()):
    path = f"{sys.argv[1]}{type(net).__name__}.onnx"
    shapes = {"scores": {0: torch.export.Dim.DYNAMIC}}
    torch.onnx.export(net.eval(), (torch.rand(8),), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
PYTHON
cat >"$work/compare.py" <<'PYTHON'
import pathlib
import re
import sys

import onnx


def strip(path):
    """The file without what its nodes say of themselves."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    return model.SerializeToString(deterministic=True)


best, every = ([f"{turn}{name}.onnx" for turn in "12"] for name in ("Best", "All"))
pairs = {"min": best, "none": every}
same = {kind: len({pathlib.Path(path).read_bytes() for path in pair}) == 1 for kind, pair in pairs.items()}
found = [re.findall(rb"sym_min at 0x[0-9a-f]+", pathlib.Path(path).read_bytes())[:1] for path in best]
print("equal bytes:", same, found, "; without metadata:", strip(best[0]) == strip(best[1]))
sys.exit(same != {"min": False, "none": True} or not all(found) or strip(best[0]) != strip(best[1]))
PYTHON
cd "$work"
for turn in 1 2; do "$work/venv/bin/python" -W ignore "$work/write.py" $turn; done
"$work/venv/bin/python" "$work/compare.py"
