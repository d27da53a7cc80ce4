#!/usr/bin/env bash
# One would guess: saving a transposed NumPy array either stores its values in the right order or
#   is refused, as the same library refuses a non-contiguous PyTorch tensor.
# What happens: it is stored without a word with the shape of the transposed array and the bytes
#   of the one before; reading it back gives other values. A Fortran-ordered array meets the same.
# Version: safetensors 0.8.0, NumPy 2.4.6.
# Why it matters: weights that go between Keras (H, W, in, out) and PyTorch (out, in, H, W) are
#   transposed views. The file opens, the shapes fit, no checksum fails, and the model predicts
#   noise.
# Source: the docstring of safetensors.numpy.save asks for contiguous tensors; nothing checks it,
#   and a Fortran-ordered array is contiguous in its own way. Issue 825 of the project, open when
#   this was written, reports it as new in 0.8.0.
# Output as seen:
#   safetensors 0.8.0 numpy 2.4.6
#   expected [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]] or an error
#   seen     [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
#   after ascontiguousarray [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 safetensors==0.8.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import safetensors
from safetensors.numpy import load, save

print("safetensors", safetensors.__version__, "numpy", np.__version__)
kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
transposed = kernel.T
read = load(save({"kernel": transposed}))["kernel"]
print("expected", transposed.tolist(), "or an error")
print("seen    ", read.tolist())
copied = load(save({"kernel": np.ascontiguousarray(transposed)}))["kernel"]
print("after ascontiguousarray", copied.tolist())
same_bytes = np.array_equal(read.ravel(), kernel.ravel())
sys.exit(0 if same_bytes and np.array_equal(copied, transposed) else 1)
PYTHON
