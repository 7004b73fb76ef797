#!/usr/bin/env bash
# torch 2.14.1, torchvision 0.29.1: asked for opset 18, `torch.onnx.export` writes a net with `deform_conv2d` into a file that
# is not valid in opset 18, and that onnxruntime 1.32.0 refuses.
#
# Expected: an error of the export, since ONNX has DeformConv from opset 19 on; or operators that opset 18 has.
# Seen: the export succeeds; the file says opset 18 and holds a DeformConv, which onnx's checker and onnxruntime refuse.
# Who is hurt: exports to an older runtime, the very reason to ask for an opset: found out only on the other machine.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 \
    onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cat >"$work/show.py" <<'PYTHON'
import sys
import warnings

import onnx
import onnxruntime
import torch
import torchvision


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(4, 4, 3, 3))

    def forward(self, x, offset):
        return torchvision.ops.deform_conv2d(x, offset, self.weight, padding=1)


def tried(work, *args):
    try:
        work(*args)
    except Exception as error:
        return str(error).splitlines()[0][:120]
    return "taken"


net, inputs = Net().eval(), (torch.rand(1, 4, 8, 8), torch.rand(1, 18, 8, 8) - 0.5)
results = {}
for opset in (18, 19):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.onnx.export(net, inputs, "net.onnx", dynamo=True, opset_version=opset, verbose=False)
    model = onnx.load("net.onnx")
    written = [(n.op_type, o.version) for n in model.graph.node for o in model.opset_import if o.domain == ""]
    answers = [tried(onnx.checker.check_model, model), tried(onnxruntime.InferenceSession, "net.onnx")]
    print(opset, written, answers, "warnings:", [str(w.message)[:80] for w in told if "DeformConv" in str(w.message)])
    results[opset] = (written, [answer == "taken" for answer in answers])
sys.exit(results != {v: ([("DeformConv", v)], [v == 19] * 2) for v in (18, 19)})
PYTHON
cd "$work"
"$work/venv/bin/python" "$work/show.py"
