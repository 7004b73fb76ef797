#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2: files of opset 22 and newer with RoiAlign do not load on the CPU.
#
# Expected: the runtime takes opsets to 26: convolutions, deformable ones too, GridSample and NonMaxSuppression,
# all of which these opsets define, run. RoiAlign of 22 differs from that of 16 by one more type of numbers.
# Seen: "Could not find an implementation for RoiAlign(22)" from 22 on; at 21 the same text runs. MaxRoiPool is alike.
# Who is hurt: whoever exports a two-stage detector at the newest opset: exporter and checker are content, and no session
# opens. Raising a working file's opset, as a converter of versions does, breaks it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$work/venv/bin/python" - <<'PYTHON'
import sys

import onnx
import onnxruntime

nets = {
    "RoiAlign": "(float[1,1,9,9] x, float[1,4] b, int64[1] i) => (float[1,1,1,1] y) { y = RoiAlign(x, b, i) }",
    "MaxRoiPool": "(float[1,1,9,9] x, float[1,5] b) => (float[1,1,1,1] y) { y = MaxRoiPool<pooled_shape = [1, 1]>(x, b) }",
    "DeformConv": "(float[1,1,9,9] x, float[1,1,3,3] w, float[1,18,7,7] o) => (float[1,1,7,7] y) { y = DeformConv(x, w, o) }",
    "GridSample": "(float[1,1,9,9] x, float[1,2,2,2] g) => (float[1,1,2,2] y) { y = GridSample(x, g) }",
    "NonMaxSuppression": "(float[1,5,4] b, float[1,1,5] s, int64 k) => (int64[n,3] y) { y = NonMaxSuppression(b, s, k) }",
    "Conv": "(float[1,1,9,9] x, float[1,1,3,3] w) => (float[1,1,7,7] y) { y = Conv(x, w) }",
}
seen = {}
for name, net in nets.items():
    for opset in range(21, 27):
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> net {net}')
        onnx.checker.check_model(model, full_check=True)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented as error:
            print(name, opset, str(error)[:110])
        else:
            seen.setdefault(name, []).append(opset)
print(seen)
every = list(range(21, 27))
right = {name: [21] if name in ("RoiAlign", "MaxRoiPool") else every for name in nets}
sys.exit(seen != right)
PYTHON
