#!/usr/bin/env bash
# One would guess: reading a window at column 0.5 either resamples or rounds its offset by one
#   rule, and window_transform names the place of what was read.
# What happens: the offset is snapped, and to which pixel depends on the length of the window:
#   offset 0.5 starts at column 1 for length 4 and at column 0 for length 3.5. window_transform
#   keeps 0.5 for both.
# Version: rasterio 1.4.4 with GDAL 3.10.3.
# Why it matters: windows from geographic bounds are fractional. Tiles cut so and written with
#   window_transform lie up to half a pixel beside their pixels, image and labels by different
#   amounts where their windows differ in length.
# Source: the docstring of read takes a window and says nothing about fractions.
# Output as seen:
#   rasterio 1.4.4 GDAL 3.10.3
#   offset 0.5 length 4 -> columns [1, 2, 3, 4] window_transform says 0.5
#   offset 0.5 length 3.5 -> columns [0, 1, 2, 3] window_transform says 0.5
#   offset 1 length 3.4 -> columns [1, 2, 3] window_transform says 1.0
#   offset 1 length 3.5 -> columns [1, 2, 3, 4] window_transform says 1.0
#   expected: both windows at 0.5 start at the same column, the transform names that column
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 rasterio==1.4.4
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings
import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
with rasterio.open("w.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8",
                   transform=from_origin(0, 8, 1, 1)) as file:
    file.write(np.tile(np.arange(8, dtype=np.uint8), (8, 1)), 1)
seen = {}
with rasterio.open("w.tif") as file:
    for offset, length in ((0.5, 4), (0.5, 3.5), (1, 3.4), (1, 3.5)):
        window = Window(offset, 0, length, 1)
        columns = file.read(1, window=window)[0].tolist()
        seen[offset, length] = columns
        print("offset", offset, "length", length, "-> columns", columns,
              "window_transform says", file.window_transform(window).c)
print("expected: both windows at 0.5 start at the same column, the transform names that column")
sys.exit(0 if seen[0.5, 4][0] == 1 and seen[0.5, 3.5][0] == 0 else 1)
PYTHON
