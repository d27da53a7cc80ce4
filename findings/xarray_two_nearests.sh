#!/usr/bin/env bash
# One would guess: sel(method="nearest") and interp(method="nearest") take the same pixel.
# What happens: half way between two pixels interp takes the one with the smaller coordinate and sel
#   the one with the larger, on rising and falling coordinates alike; interp also turns uint8 class
#   ids into float64. reindex does as sel does.
# Version: xarray 2026.9.0, SciPy 1.17.1, pandas 3.1.1.
# Why it matters: a grid of twice the pixel size has all its centres half way between the finer ones.
#   A label map brought to it with one and an image or a second label map with the other lie a whole
#   pixel apart in both directions, in every pixel and not here and there.
# Source: seen by running.
# Output as seen:
#   expected: the same four ids in each line, uint8
#   rising  sel     [1, 3, 5, 7] uint8
#   rising  reindex [1, 3, 5, 7] uint8
#   rising  interp  [0.0, 2.0, 4.0, 6.0] float64
#   falling sel     [1, 3, 5, 7] uint8
#   falling reindex [1, 3, 5, 7] uint8
#   falling interp  [0.0, 2.0, 4.0, 6.0] float64
#   stripes two pixels wide: pixels in which the two agree: 0.0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile numpy==2.4.6 xarray==2026.9.0 scipy==1.17.1 pandas==3.1.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import xarray

fine = np.arange(8) + 0.5  # centres of pixels of 1 m, and of pixels of 2 m: the edges of the finer ones
coarse = np.arange(4) * 2 + 1.0
labels = xarray.DataArray(np.arange(8, dtype=np.uint8), dims="x", coords={"x": fine})
seen = []
print("expected: the same four ids in each line, uint8")
for name, array in (("rising", labels), ("falling", labels[::-1])):
    for method in ("sel", "reindex", "interp"):
        out = getattr(array, method)(x=coarse, method="nearest")
        seen.append((out.values.tolist(), str(out.dtype)))
        print(f"{name:7} {method:7}", *seen[-1])
square = xarray.DataArray((np.indices((8, 8)).sum(0) // 2 % 2).astype(np.uint8), dims=("y", "x"),
                          coords={"y": fine, "x": fine})
same = float((square.sel(y=coarse, x=coarse, method="nearest").values
              == square.interp(y=coarse, x=coarse, method="nearest").values).mean())
print("stripes two pixels wide: pixels in which the two agree:", same)
larger, smaller = ([1, 3, 5, 7], "uint8"), ([0.0, 2.0, 4.0, 6.0], "float64")
sys.exit(not (seen == [larger, larger, smaller] * 2 and same == 0.0))
PYTHON
