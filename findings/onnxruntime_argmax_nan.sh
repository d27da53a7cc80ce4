#!/usr/bin/env bash
# One would guess: where a logit is NaN, ArgMax names that class, as argmax of NumPy and PyTorch
#   do, or it always passes over it.
# What happens: it names the class only where the NaN stands first (class 0); anywhere else it is
#   passed over and a plausible class comes out.
# Version: onnxruntime 1.32.0 (CPU), onnx 1.23.2, NumPy 2.4.6.
# Why it matters: a diverged model, or a scene with NaN pixels, shows at once as one class all
#   over in NumPy; exported with the argmax in its graph it shows a plausible map, and the two
#   disagree exactly where the numbers are broken.
# Source: the text of the operator ArgMax in the onnx package says nothing about NaN. Issue 19558
#   of Apache TVM gives the result of NumPy for onnxruntime 1.23 and other rows.
# Output as seen:
#   onnxruntime 1.32.0 numpy 2.4.6
#   logits of four pixels: [[0.0, nan, 1.0, 5.0], [nan, 0.0, 5.0, 1.0], [1.0, 3.0, nan, 2.0], [0.0, 3.0, 1.0, nan]]
#   expected, as NumPy: [1, 0, 2, 3]
#   seen, onnxruntime:  [3, 0, 1, 1]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print("onnxruntime", onnxruntime.__version__, "numpy", np.__version__)
nan = np.nan
logits_PK = np.array([[0, nan, 1, 5], [nan, 0, 5, 1], [1, 3, nan, 2], [0, 3, 1, nan]], np.float32)
logits_BKHW = np.ascontiguousarray(logits_PK.T)[None, :, None, :]
graph = helper.make_graph(
    [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)], "argmax",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, logits_BKHW.shape)],
    [helper.make_tensor_value_info("y", TensorProto.INT64, None)])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
seen = session.run(None, {"x": logits_BKHW})[0].ravel().tolist()
expected = np.argmax(logits_BKHW, axis=1).ravel().tolist()
print("logits of four pixels:", logits_PK.tolist())
print("expected, as NumPy:", expected)
print("seen, onnxruntime: ", seen)
sys.exit(0 if expected == [1, 0, 2, 3] and seen == [3, 0, 1, 1] else 1)
PYTHON
