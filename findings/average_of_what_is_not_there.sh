#!/usr/bin/env bash
# OpenCV 5.0.0.93: an AveragePool of ONNX with `ceil_mode` and `count_include_pad` divides by pixels beyond the padding.
#
# Expected: what `ceil_mode` adds at the right and bottom belongs neither to the picture nor to its padding, and no runtime
# counts it: the mean of a picture of ones is one everywhere. ONNX's own reference and onnxruntime 1.32.0 say so, and
# PyTorch's AvgPool2d, whose files have `count_include_pad` by default.
# Seen: over 5 x 7 ones, in windows of 2 x 2, the last column is 0.5, the last row too, and the corner 0.25.
# Who is hurt: nets with `AvgPool2d(2, ceil_mode=True)`, where a map's size is odd: features fade at two rims.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

ones = np.ones((1, 1, 5, 7), np.float32)
for counted in (0, 1):
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        halve (float[1, 1, 5, 7] x) => (float[1, 1, 3, 4] y) {{
            y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1, count_include_pad = {counted}>(x)
        }}""")
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert (session.run(None, {"x": ones})[0] == 1).all()
    assert (ReferenceEvaluator(model).run(None, {"x": ones})[0] == 1).all()
    net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    net.setInput(ones)
    found = net.forward()[0, 0]
    print(f"count_include_pad={counted}", found.tolist())
    expected = np.ones((3, 4))
    if counted:
        expected[:, 3] /= 2
        expected[2] /= 2
    assert np.array_equal(found, expected)
PYTHON
