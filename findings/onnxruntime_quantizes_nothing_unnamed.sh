#!/usr/bin/env bash
# One would guess: nodes_to_exclude of quantize_static leaves out the nodes it names; a graph whose
#   nodes have no names (they are optional in ONNX) is quantised but for none, or refused.
# What happens: names are compared as they are, so the empty name of one node to leave out is that of
#   all of them: the call succeeds and not one node is quantised.
# Version: onnxruntime 1.32.0, onnx 1.23.2.
# Why it matters: the "int8" model has the size, the speed and the exact numbers of float32, and
#   nothing says so. Exporters that write nodes without names are common.
# Source: seen by running.
# Output as seen:
#   with names: 2 QuantizeLinear, 3 DequantizeLinear
#   without names: 0 QuantizeLinear, 0 DequantizeLinear
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==1.32.0" "onnx==1.23.2"
cd "$folder"
venv/bin/python - <<'PYTHON' 2>/dev/null
import sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

rng = np.random.default_rng(0)
weights = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
two = numpy_helper.from_array(np.float32(2), "two")


def graph(names):
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["y"], name=names[0]),
        helper.make_node("Conv", ["y", "w"], ["z"], name=names[1]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", (1, 3, 8, 8)), ("z", (1, 4, 6, 6)))
    ]
    inside = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights, two])
    return helper.make_model(inside, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Images:
    def __init__(self):
        self.left = [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(2)]

    def get_next(self):
        return self.left.pop() if self.left else None


def counts(names):
    quantization.quantize_static(
        graph(names), "out.onnx", Images(), op_types_to_quantize=["Conv"], nodes_to_exclude=names[:1]
    )
    kinds = [node.op_type for node in onnx.load("out.onnx").graph.node]
    return kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")


named, unnamed = counts(["scale", "convolution"]), counts(["", ""])
for words, found in (("with names", named), ("without names", unnamed)):
    print(f"{words}: {found[0]} QuantizeLinear, {found[1]} DequantizeLinear")
sys.exit(not (min(named) > 0 and unnamed == (0, 0)))
PYTHON
