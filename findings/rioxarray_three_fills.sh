#!/usr/bin/env bash
# One would guess: for a label raster without nodata, all methods that make new pixels fill them
#   with the same number, or all refuse.
# What happens: clip and pad_box fill uint8 with 0 and name no nodata; reproject_match fills with
#   255 and names it, though nobody set it. The same pad_box on int16 raises a ValueError about
#   NaN.
# Version: rioxarray 0.19.0, xarray 2026.9.0, rasterio 1.4.4 with GDAL 3.10.3.
# Why it matters: 0 is a class and 255 the usual number to ignore. Clipped or padded label tiles
#   gain background that nobody labelled and that is scored; reprojected ones do not.
# Source: the docstring of pad_box names NaN as the fill where no nodata is set, which uint8
#   cannot hold; it does not say what then happens.
# Output as seen:
#   rioxarray 0.19.0 xarray 2026.9.0
#   clip labels [0, 1] nodata None
#   pad_box labels [0, 1] nodata None
#   reproject_match labels [1, 255] nodata 255
#   pad_box of int16: cannot convert float NaN to integer
#   expected: one number for all new pixels
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 rioxarray==0.19.0 xarray==2026.9.0 rasterio==1.4.4 shapely==2.2.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings
import numpy as np
import rasterio
import rioxarray
import xarray
from shapely import box

warnings.simplefilter("ignore")
print("rioxarray", rioxarray.__version__, "xarray", xarray.__version__)
labels = xarray.DataArray(
    np.ones((4, 4), np.uint8), dims=("y", "x"),
    coords={"y": [5000007.0, 5000005.0, 5000003.0, 5000001.0],
            "x": [500001.0, 500003.0, 500005.0, 500007.0]}).rio.write_crs(32633)
clipped = labels.rio.clip([box(500000, 5000000, 500004, 5000008)], drop=False)
padded = labels.rio.pad_box(499990, 4999990, 500020, 5000020)
matched = labels.rio.reproject_match(padded)
seen = []
for name, made in (("clip", clipped), ("pad_box", padded), ("reproject_match", matched)):
    seen.append((np.unique(made.values).tolist(), made.rio.nodata))
    print(name, "labels", seen[-1][0], "nodata", seen[-1][1])
try:
    labels.astype(np.int16).rio.pad_box(499990, 4999990, 500020, 5000020)
    refused = ""
except ValueError as error:
    refused = str(error)
print("pad_box of int16:", refused or "worked")
print("expected: one number for all new pixels")
right = seen == [([0, 1], None), ([0, 1], None), ([1, 255], 255)] and refused
sys.exit(0 if right else 1)
PYTHON
