#!/usr/bin/env bash
# torch 2.14.1: files written by `torch.onnx.export` and `torch.export.save` hold the folders of the machine that wrote them,
# and lines of its source with the comments behind them.
#
# Expected: operators, names, shapes and weights; the source stays at home, as it does with a file of weights.
# Seen: a stack trace with path and source line in the nodes of the ONNX file, and in the .pt2 as well.
# Who is hurt: whoever publishes an exported model: names of users, customers and projects go along, code as well.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2
mkdir "$work/for-customer-acme"
cat >"$work/for-customer-acme/net.py" <<'PYTHON'
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        return x.relu() * 2  # a remark meant for colleagues
PYTHON
cat >"$work/for-customer-acme/show.py" <<'PYTHON'
import sys
import zipfile

import onnx
import torch
from net import Net

net, inputs = Net().eval(), (torch.rand(8),)
torch.onnx.export(net, inputs, "net.onnx", dynamo=True, verbose=False)
torch.export.save(torch.export.export(net, inputs), "net.pt2")
nodes = onnx.load("net.onnx").graph.node
texts = ["\n".join(pair.value for pair in node.metadata_props) for node in nodes]
with zipfile.ZipFile("net.pt2") as parts:
    texts.append("\n".join(parts.read(name).decode("utf-8", "replace") for name in parts.namelist()))
told = [("for-customer-acme" in text, "meant for colleagues" in text) for text in texts]
print("a node of the ONNX file:", texts[0])
print("folder and remark are in nodes", told[:-1], "and in the .pt2", told[-1])
sys.exit(not all(all(pair) for pair in told))
PYTHON
cd "$work"
"$work/venv/bin/python" -W ignore "$work/for-customer-acme/show.py"
