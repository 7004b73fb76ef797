#!/usr/bin/env bash
# onnx 1.23.2: its own reference gives a MaxPool with `ceil_mode` more rows and columns than there are.
#
# Expected: a window of 3 x 3 that moves by one over a padded picture gives as many pixels as the picture has, whether sizes
# are rounded up or down, since nothing is left to round: onnx's inference of shapes says so, and onnxruntime 1.32.0 does it.
# Seen: of 5 x 7 the reference makes 7 x 9 with `ceil_mode = 1`, and 5 x 7 with 0. AveragePool is right in both.
# Who is hurt: those who hold a file, or a runtime of their own, against the reference.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

picture = np.arange(35, dtype=np.float32).reshape(1, 1, 5, 7)
for pool in ("MaxPool", "AveragePool"):
    for ceil in (0, 1):
        model = onnx.parser.parse_model(f"""
            <ir_version: 10, opset_import: ["" : 20]>
            pool (float[1, 1, 5, 7] x) => (float[?, ?, ?, ?] y) {{
                y = {pool}<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1], ceil_mode = {ceil}>(x)
            }}""")
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
        content = model.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        theirs = session.run(None, {"x": picture})[0].shape
        reference = ReferenceEvaluator(model).run(None, {"x": picture})[0].shape
        print(pool, f"ceil_mode={ceil}", "onnxruntime", theirs, "reference", reference)
        assert theirs == tuple(d.dim_value for d in inferred.dim) == (1, 1, 5, 7)
        assert reference == ((1, 1, 7, 9) if ceil and pool == "MaxPool" else (1, 1, 5, 7))
PYTHON
