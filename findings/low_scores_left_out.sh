#!/usr/bin/env bash
# OpenVINO 2026.4.1 leaves boxes out of a NonMaxSuppression that has no threshold for scores, where these are -inf or the
# lowest finite number.
#
# Expected: ONNX takes boxes by their scores "if score_threshold is given"; without it all four boxes, which do not
# overlap, stay, as in onnxruntime 1.32.0.
# Seen: two stay. OpenVINO puts the lowest finite number in the threshold's place, and keeps what lies above it.
# Who is hurt: graphs that mark rows which mean nothing by -inf and count on their places behind the others.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0
cat >"$work/show.py" <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

lowest = np.finfo(np.float32).min
boxes = np.array([[[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5], [6, 6, 7, 7]]], np.float32)
scores = np.array([[[0.9, -5, lowest, -np.inf]]], np.float32)
node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["kept"])
numbers = [
    helper.make_tensor("most", TensorProto.INT64, [1], [10]),
    helper.make_tensor("iou", TensorProto.FLOAT, [1], [0.5]),
]
inputs = [
    helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 4, 4]),
    helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 4]),
]
outputs = [helper.make_tensor_value_info("kept", TensorProto.INT64, ["n", 3])]
graph = helper.make_graph([node], "g", inputs, outputs, numbers)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model)
content = model.SerializeToString()
(one,) = onnxruntime.InferenceSession(content).run(None, {"boxes": boxes, "scores": scores})
core = openvino.Core()
other = core.compile_model(core.read_model(content), "CPU")([boxes, scores])[0]
print("onnxruntime keeps", one[:, 2].tolist(), "openvino keeps", other[:, 2].tolist())
assert one[:, 2].tolist() == [0, 1, 2, 3]
assert other[:, 2].tolist() == [0, 1]
PYTHON
"$work/venv/bin/python" -W ignore "$work/show.py"
