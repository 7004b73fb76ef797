#!/usr/bin/env bash
# OpenVINO 2026.4.1: Clip and Relu make a number of what is not a number.
#
# Expected: NaN stays NaN, as in ONNX's own reference and in onnxruntime 1.32.0.
# Seen: Clip to -0.5 … 0.5 makes it -0.5, and Relu 0.
# Who is hurt: those who look for NaN in a net's outputs to see that half precision has overflowed: behind the first ReLU
# it is gone, and boxes that were clipped to the picture look like boxes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx.reference import ReferenceEvaluator

values = np.array([np.nan, 1, -1], np.float32)
for node, bound in (("Clip(x, low, high)", -0.5), ("Relu(x)", 0.0)):
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[3] x) => (float[3] y) <float low = {{-0.5}}, float high = {{0.5}}> {{ y = {node} }}""")
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    theirs = session.run(None, {"x": values})[0]
    reference = ReferenceEvaluator(model).run(None, {"x": values})[0]
    seen = compiled(values)[0]
    print(node, "onnxruntime", theirs.tolist(), "reference", reference.tolist(), "openvino", seen.tolist())
    assert np.isnan(theirs[0])
    assert np.isnan(reference[0])
    assert seen[0] == bound
    assert np.array_equal(seen[1:], theirs[1:])
PYTHON
