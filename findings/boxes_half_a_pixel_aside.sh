#!/usr/bin/env bash
# onnx 1.23.2: its own reference computes RoiAlign of opsets 10 to 15 with boxes half a pixel to the left and above.
#
# Expected: before opset 16 there is no `coordinate_transformation_mode`, and boxes are taken as they are; opset 16 calls
# that "output_half_pixel", and names it the way to get what older opsets do. Over a ramp, whose value is its column, a box
# of columns 2 to 6 in two cells has the means 3 and 5.
# Seen: the reference gives 2.5 and 4.5 at opset 10, which is what opset 16 does by default; with "output_half_pixel" at
# opset 16, and from onnxruntime 1.32.0 in both, it is 3 and 5.
# Who is hurt: those who hold a detector's file, converted or run elsewhere, against the reference: the right runtime looks
# wrong.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

inputs = {
    "ramp": np.tile(np.arange(9, dtype=np.float32), (1, 1, 9, 1)),
    "boxes": np.array([[2, 2, 6, 6]], np.float32),
    "pictures": np.zeros(1, np.int64),
}
cases = {(10, ""): 2.5, (16, ', coordinate_transformation_mode="output_half_pixel"'): 3.0, (16, ""): 2.5}
ok = True
for (opset, mode), expected in cases.items():
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : {opset}]>
        align (float[1, 1, 9, 9] ramp, float[1, 4] boxes, int64[1] pictures) => (float[1, 1, 1, 2] cells) {{
            cells = RoiAlign<output_height = 1, output_width = 2, sampling_ratio = 2{mode}>(ramp, boxes, pictures)
        }}""")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs, reference = (run(None, inputs)[0].ravel().tolist() for run in (session.run, ReferenceEvaluator(model).run))
    print("opset", opset, mode[2:], "onnxruntime", theirs, "reference", reference)
    ok &= reference == [expected, expected + 2]
    ok &= theirs == ([3.0, 5.0] if opset == 10 else reference)
sys.exit(not ok)
PYTHON
