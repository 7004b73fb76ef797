#!/usr/bin/env bash
# onnxruntime 1.32.0: a picture of uint8 gets half a level darker where Resize interpolates it, as values are cut off.
#
# Expected: values are rounded, so that over a picture of noise the errors cancel each other, as in ONNX's own reference and
# in onnxruntime itself with `antialias=1`.
# Seen: with `antialias=0` each value is rounded towards zero, and the mean of the picture falls by half a level.
# Who is hurt: those who resize in the graph before the cast to float: their pictures differ from those of training by a
# bias, which normalisation does not take away; and who compares two runtimes finds differences of a level everywhere.
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

noise = np.random.default_rng(0).integers(0, 256, (1, 3, 60, 80), dtype=np.uint8)
floats = noise.astype(np.float32)


def resize(kind, picture, antialias):
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        grow ({kind}[1, 3, 60, 80] x) => ({kind}[1, 3, 93, 131] y) <int64[4] size = {{1, 3, 93, 131}}> {{
            y = Resize<mode = "linear", antialias = {antialias}>(x, , , size)
        }}""")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return (run(None, {"x": picture})[0].astype(np.float64) for run in (session.run, ReferenceEvaluator(model).run))


for antialias, bias in ((0, -0.5), (1, 0.0)):
    exact, _ = resize("float", floats, antialias)
    seen, reference = resize("uint8", noise, antialias)
    print(f"antialias={antialias}: onnxruntime {(seen - exact).mean():+.3f}, reference {(reference - exact).mean():+.3f} levels")
    assert abs((seen - exact).mean() - bias) < 0.03
    assert abs((reference - exact).mean()) < 0.03
    assert antialias or (seen == np.floor(exact + 1e-4)).mean() > 0.99
PYTHON
