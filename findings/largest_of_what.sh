#!/usr/bin/env bash
# RoiAlign of mode "max" means one thing in OpenVINO 2026.4.1 and another in onnxruntime 1.32.0, OpenCV 5.0.0.93 and ONNX's
# own reference (1.23.2).
#
# Expected: a cell is the largest of the values at its points, each interpolated between four pixels: over a picture of
# ones every cell is 1, whatever the box. OpenVINO does that.
# Seen: onnxruntime, OpenCV and the reference take the largest of single pixels times their weights, before they are added:
# over ones, cells are between 0.25 and 1, by where the points lie between pixels. onnxruntime warns that this is wrong and
# is to change with 1.13; the other two say nothing.
# Who is hurt: a detector with such pooling has other features in each runtime, and the majority is wrong.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx.reference import ReferenceEvaluator

ones = np.ones((1, 1, 8, 8), np.float32)
box = np.array([[1, 1, 3, 3]], np.float32)  # its points lie in the middle between four pixels
picture = np.zeros(1, np.int64)
found = {}
for mode in ("avg", "max"):
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 16]>
        align (float[1, 1, 8, 8] x, float[1, 4] box, int64[1] picture) => (float[1, 1, 2, 2] y) {{
            y = RoiAlign<mode = "{mode}", output_height = 2, output_width = 2, sampling_ratio = 1,
                         coordinate_transformation_mode = "output_half_pixel">(x, box, picture)
        }}""")
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    inputs = {"x": ones, "box": box, "picture": picture}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found["onnxruntime", mode] = session.run(None, inputs)[0]
    found["reference", mode] = ReferenceEvaluator(model).run(None, inputs)[0]
    net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    for name, value in inputs.items():
        net.setInput(value, name)
    found["opencv", mode] = net.forward()
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found["openvino", mode] = compiled([ones, box, picture])[0]
for (name, mode), cells in found.items():
    print(mode, name, cells.ravel().tolist())
    assert np.allclose(cells, 0.25 if mode == "max" and name != "openvino" else 1.0, atol=1e-6), name
PYTHON
