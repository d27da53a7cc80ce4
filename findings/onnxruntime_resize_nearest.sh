#!/usr/bin/env bash
# One would guess: Resize with mode nearest, whose default is half-pixel centres, picks the pixels
#   of the half-pixel resizers (Pillow, INTER_NEAREST_EXACT, nearest-exact of PyTorch).
# What happens: halving, it picks those of the other kind (INTER_NEAREST, nearest of PyTorch),
#   since ties go down; at 8 to 3 it agrees with neither.
# Version: onnxruntime 1.32.0, onnx 1.23.2, OpenCV 5.0.0.
# Why it matters: whoever checks an exported model or label pipeline at factor 2, as most do,
#   finds either resizer confirmed, and learns of the moved boundaries at another factor only from
#   the scores.
# Source: the operator Resize of ONNX has the defaults half_pixel and round_prefer_floor; that the
#   two together match no common resizer has to be worked out.
# Output as seen:
#   onnxruntime 1.32.0 onnx 1.23.2 OpenCV 5.0.0
#   8 to 4 onnxruntime [0, 2, 4, 6] INTER_NEAREST [0, 2, 4, 6] INTER_NEAREST_EXACT [1, 3, 5, 7]
#   8 to 3 onnxruntime [1, 3, 6] INTER_NEAREST [0, 2, 5] INTER_NEAREST_EXACT [1, 4, 6]
#   6 to 9 onnxruntime [0, 0, 1, 2, 2, 3, 4, 4, 5] INTER_NEAREST [0, 0, 1, 2, 2, 3, 4, 4, 5] INTER_NEAREST_EXACT [0, 1, 1, 2, 2, 3, 4, 5, 5]
#   expected: onnxruntime equal to INTER_NEAREST_EXACT each time
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 opencv-python-headless==5.0.0.93
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__, "OpenCV", cv2.__version__)
def by_onnx(source, target):
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, 1, target])
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest")], "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, source])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, target])], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    row = np.arange(source, dtype=np.float32)[None, None, None]
    return session.run(None, {"x": row})[0].astype(int).ravel().tolist()
def by_opencv(source, target, kind):
    row = np.arange(source, dtype=np.uint8)[None]
    return cv2.resize(row, (target, 1), interpolation=kind)[0].tolist()
for source, target in ((8, 4), (8, 3), (6, 9)):
    print(source, "to", target, "onnxruntime", by_onnx(source, target), "INTER_NEAREST",
          by_opencv(source, target, cv2.INTER_NEAREST), "INTER_NEAREST_EXACT",
          by_opencv(source, target, cv2.INTER_NEAREST_EXACT))
print("expected: onnxruntime equal to INTER_NEAREST_EXACT each time")
halved = (by_onnx(8, 4), by_opencv(8, 4, cv2.INTER_NEAREST))
thirds = by_onnx(8, 3) not in (by_opencv(8, 3, cv2.INTER_NEAREST),
                               by_opencv(8, 3, cv2.INTER_NEAREST_EXACT))
sys.exit(0 if halved[0] == halved[1] and thirds else 1)
PYTHON
