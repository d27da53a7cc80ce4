#!/usr/bin/env bash
# One would guess: overviews built with nearest hold the same pixels that a reduced read with
#   nearest returns; building them makes reading faster and changes nothing.
# What happens: the overview keeps the upper left pixel of each 2×2 block, the reduced read
#   without overviews and the warper take the lower right one. The same call on the same file
#   returns other labels once overviews exist.
# Version: rasterio 1.4.4 with GDAL 3.10.3.
# Why it matters: labels read at half resolution, for training or for scores, depend on whether
#   somebody once ran an overview build, and then lie one full pixel further to the lower right
#   against the image. Averaged images have no such shift.
# Source: the docstring of rasterio read says nearest neighbour and not which pixel of an even
#   block that is. The pages of GDAL on overviews were not read for this.
# Output as seen:
#   rasterio 1.4.4 GDAL 3.10.3
#   blocks are [[1, 2], [3, 4]]; expected: the same label three times
#   reduced read, no overviews [4]
#   warped                     [4]
#   reduced read, overviews    [1]
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
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import reproject

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
labels = np.tile(np.array([[1, 2], [3, 4]], np.uint8), (4, 4))
half, grid = from_origin(0, 8, 2, 2), from_origin(0, 8, 1, 1)
with rasterio.open("l.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8",
                   transform=grid, crs="EPSG:32633") as file:
    file.write(labels, 1)
def reduced():
    with rasterio.open("l.tif") as file:
        return np.unique(file.read(1, out_shape=(4, 4), resampling=Resampling.nearest)).tolist()
before = reduced()
warped = np.zeros((4, 4), np.uint8)
reproject(labels, warped, src_transform=grid, dst_transform=half, src_crs="EPSG:32633",
          dst_crs="EPSG:32633", resampling=Resampling.nearest)
with rasterio.open("l.tif", "r+") as file:
    file.build_overviews([2], Resampling.nearest)
after = reduced()
print("blocks are [[1, 2], [3, 4]]; expected: the same label three times")
print("reduced read, no overviews", before)
print("warped                    ", np.unique(warped).tolist())
print("reduced read, overviews   ", after)
sys.exit(0 if (before, np.unique(warped).tolist(), after) == ([4], [4], [1]) else 1)
PYTHON
