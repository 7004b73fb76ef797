#!/usr/bin/env bash
# OpenVINO 2026.4.1, OpenCV 5.0.0.93 and MNN 3.6.1 read a Resize that asks for antialiasing, and leave it out in silence.
#
# Expected: columns of 0, 0 and 255 in turn, resized to a quarter with `antialias=1`, are greys of 80 to 88, as by ONNX's own
# reference and onnxruntime 1.32.0; or an error that the attribute is not known.
# Seen: all three give 127.5, 0, 127.5, 127.5, which is what comes without antialiasing.
# Who is hurt: those who put the resizing into the exported file: photographs are made smaller as never in training, and no
# line says so.
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

stripes = np.tile(np.array([0, 0, 255], np.float32), (24, 8))[None, None]  # (1, 1, 24, 24)
found = {}
for antialias in (0, 1):
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        shrink (float[1, 1, 24, 24] x) => (float[1, 1, 6, 6] y) <int64[4] size = {{1, 1, 6, 6}}> {{
            y = Resize<mode = "linear", antialias = {antialias}, exclude_outside = {antialias}>(x, , , size)
        }}""")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    content = model.SerializeToString()

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found["onnxruntime", antialias] = session.run(None, {"x": stripes})[0]

    core = openvino.Core()
    compiled = core.compile_model(core.read_model("model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found["openvino", antialias] = compiled(stripes)[0]

    net = cv2.dnn.readNetFromONNX("model.onnx")
    net.setInput(stripes)
    found["opencv", antialias] = net.forward()

    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn", "--bizCode", "x"])
    module = nn.load_module_from_file("model.mnn", ["x"], ["y"])
    given = expr.const(stripes.ravel().tolist(), list(stripes.shape), expr.NCHW)
    found["mnn", antialias] = np.array(expr.convert(module.forward([given])[0], expr.NCHW).read())

    found["reference", antialias] = ReferenceEvaluator(model).run(None, {"x": stripes})[0]

middle = {key: value[0, 0, 2, 1:5].round(1).tolist() for key, value in found.items()}
for (name, antialias), row in middle.items():
    print(f"antialias={antialias}", name, row)
    smooth = antialias and name in ("onnxruntime", "reference")
    assert np.allclose(row, [87.7, 79.7, 87.7, 87.7] if smooth else [127.5, 0, 127.5, 127.5], atol=0.1), name
PYTHON
"$work/venv/bin/python" -W ignore show.py
