#!/usr/bin/env bash
# One would guess: nodes that convert_float_to_float16 is told to leave alone (node_block_list) keep
#   computing in float32, values that pass from one of them to the next included.
# What happens: every value between two such nodes is cast to float16 and back, so that 2049 becomes
#   2048 and 70000 becomes infinity, although no node was converted.
# Version: onnxruntime 1.32.0, onnx 1.23.2.
# Why it matters: raw 16-bit pixels before the normalisation, and heights and widths above 2048 in the
#   arithmetic of padding, are wrong in a "float16" model whose first nodes were left out on purpose.
# Source: seen by running.
# Output as seen:
#   2049 + 0 + 0 -> 2048.0
#   70000 + 0 + 0 -> inf
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==1.32.0" "onnx==1.23.2" "packaging"
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

zero = numpy_helper.from_array(np.float32(0), "zero")
nodes = [
    helper.make_node("Add", ["x", "zero"], ["y"], name="first"),
    helper.make_node("Add", ["y", "zero"], ["z"], name="second"),
]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2,)) for name in ("x", "z")]
graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [zero])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
half = convert_float_to_float16(model, keep_io_types=True, node_block_list=["first", "second"])
session = onnxruntime.InferenceSession(half.SerializeToString())
values = np.array([2049, 70000], np.float32)
(result,) = session.run(None, {"x": values})
for value, each in zip(values, result):
    print(f"{value:.0f} + 0 + 0 -> {each}")
sys.exit(not (result[0] == 2048 and np.isinf(result[1])))
PYTHON
