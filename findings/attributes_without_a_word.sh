#!/usr/bin/env bash
# MNN 3.6.1 converts operators of ONNX without attributes that change what they compute, and says nothing.
#
# Expected: what onnxruntime 1.32.0 and ONNX's own reference compute, or an error that names the attribute.
# Seen: ArgMax takes the first of the largest with `select_last_index = 1`; ScatterND writes over what it should add to with
# `reduction = "add"`, ScatterElements likewise where `axis` stands before that, and adds where it stands behind; GridSample
# repeats the picture's rim with `padding_mode = "reflection"`; Mod gives the divisor's sign with `fmod = 1`. And Round takes
# halves away from zero, where ONNX says to the even number.
# Who is hurt: those whose net counts or votes by scattering, or finds a box's cell by remainders: the converted one runs, and
# finds other things.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 onnx==1.23.2 onnxruntime==1.32.0
cd "$work"
cat >show.py <<'PYTHON'
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from MNN import expr, nn
from onnx.reference import ReferenceEvaluator

import _tools  # the converter itself; the command around it would install a package with pip

CASES = {
    # Operator: type of what goes in and comes out, values, what is right, what is seen.
    "ArgMax<axis = 0, select_last_index = 1>(x)": ("float[4] x", "int64[1] y", [1, 2, 2, 0], [2], [1]),
    'ScatterND<reduction = "add">(x, at, of)': ("float[4] x", "float[4] y", [0] * 4, [0, 2, 0, 1], [0, 1, 0, 1]),
    'ScatterElements<axis = 0, reduction = "add">(x, one, of)': (
        "float[4] x", "float[4] y", [0] * 4, [0, 2, 0, 1], [0, 1, 0, 1]
    ),
    'ScatterElements<reduction = "add", axis = 0>(x, one, of)': (
        "float[4] x", "float[4] y", [0] * 4, [0, 2, 0, 1], [0, 2, 0, 1]
    ),
    "Mod<fmod = 1>(x, divisor)": ("float[4] x", "float[4] y", [-3, 3, -7.5, 7.5], [-1, 1, -1.5, 1.5], [1, 1, 0.5, 1.5]),
    "Round(x)": ("float[4] x", "float[4] y", [-2.5, -0.5, 0.5, 1.5], [-2, 0, 0, 2], [-3, -1, 1, 2]),
    'GridSample<padding_mode = "reflection", align_corners = 1>(x, grid)': (
        "float[1, 1, 2, 4] x", "float[1, 1, 1, 2] y", [1, 2, 3, 4] * 2, [1.75, 3.25], [1, 4]
    ),
}
CONSTANTS = (
    "int64[3, 1] at = {1, 1, 3}, int64[3] one = {1, 1, 3}, float[3] of = {1, 1, 1}, float[4] divisor = {2, 2, 2, 2}, "
    "float[1, 1, 2, 2] grid = {-1.5, -1, 1.5, -1}"
)
for node, (source, target, values, right, seen) in CASES.items():
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]> g ({source}) => ({target}) <{CONSTANTS}> {{ y = {node} }}""")
    used = set(model.graph.node[0].input)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    given = np.array(values, np.float32).reshape(shape)
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"x": given})[0].ravel().tolist()
    reference = ReferenceEvaluator(model).run(None, {"x": given})[0].ravel().tolist()
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn", "--bizCode", "x"])
    module = nn.load_module_from_file("model.mnn", ["x"], ["y"])
    variable = expr.const(given.ravel().tolist(), shape, expr.NCHW)
    found = np.array(module.forward([variable])[0].read()).ravel().tolist()
    Path("model.mnn").unlink()
    print(node, "onnxruntime", theirs, "reference", reference, "MNN", found)
    assert np.allclose(theirs, right)
    assert np.allclose(reference, right)
    assert np.allclose(found, seen)
PYTHON
"$work/venv/bin/python" -W ignore show.py
