#!/usr/bin/env bash
# OpenVINO 2026.4.1 and MNN 3.6.1 give equal values in any order from ONNX's TopK.
#
# Expected: ONNX says that of equal values the one with the lower index comes first, as in its reference, in onnxruntime
# 1.32.0 and in OpenCV 5.0.0.93.
# Seen: of 300 scores with 43 equal ones at the top, both give these in an order of their own, and of the 257 equal ones
# behind them others than the first.
# Who is hurt: detectors choose by TopK what goes on: of boxes with equal scores, as half precision and saturated ones have
# in numbers, others are kept than in another runtime.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 opencv-python-headless==5.0.0.93 MNN==3.6.1 onnx==1.23.2 onnxruntime==1.32.0
cd "$work"
cat >show.py <<'PYTHON'
import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
from MNN import expr, nn
from onnx.reference import ReferenceEvaluator

import _tools  # the converter itself; the command around it would install a package with pip

scores = np.full((1, 300), 0.25, np.float32)
scores[0, ::7] = 1
first = [*range(0, 300, 7), *[k for k in range(300) if k % 7][:17]]
model = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 20]>
    choose (float[1, 300] scores) => (float[1, 60] values, int64[1, 60] places) <int64[1] k = {60}> {
        values, places = TopK(scores, k)
    }""")
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "model.onnx")
found = {"reference": ReferenceEvaluator(model).run(None, {"scores": scores})}
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
found["onnxruntime"] = session.run(None, {"scores": scores})
net = cv2.dnn.readNetFromONNX("model.onnx")
net.setInput(scores)
found["opencv"] = net.forward(["values", "places"])
core = openvino.Core()
compiled = core.compile_model(core.read_model("model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
result = compiled(scores)
found["openvino"] = [result[0], result[1]]
_tools.mnnconvert(["", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn", "--bizCode", "x"])
module = nn.load_module_from_file("model.mnn", ["scores"], ["values", "places"])
given = expr.const(scores.ravel().tolist(), [1, 300], expr.NCHW)
found["mnn"] = [np.array(one.read()) for one in module.forward([given])]
for name, (values, places) in found.items():
    order = places.ravel().astype(int).tolist()
    print(name, order[:6], "…", "by index" if order == first else "in another order")
    assert sorted(values.ravel().tolist()) == [0.25] * 17 + [1.0] * 43
    assert sorted(order[:43]) == first[:43]
    assert (order == first) == (name not in ("openvino", "mnn"))
PYTHON
"$work/venv/bin/python" -W ignore show.py
