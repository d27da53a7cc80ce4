#!/usr/bin/env bash
# One would guess: burning value 300 into uint8 is refused, as a nodata value of 300 is, or wraps
#   to 44. A tile without shapes raises, as the docstring says, or has the type of a tile with
#   shapes.
# What happens: 300 becomes 255, -1 becomes 0 and 1.7 becomes 2, without a word. Without a dtype,
#   a tile with shapes comes as int64 and a tile without shapes as float64.
# Version: rasterio 1.4.4 with GDAL 3.10.3, shapely 2.2.0.
# Why it matters: 255 is the usual number of pixels to ignore and 0 that of the background: a
#   parcel code or an object number above 255 silently takes no part in the loss and in the
#   scores. Stacking tiles of which one has no shapes turns all labels to floats.
# Source: the docstring of rasterize says that dtype is the type of the result, not what becomes
#   of values it cannot hold; it says that an exception is raised where there are no valid shapes,
#   which is not what happens for an empty list.
# Output as seen:
#   rasterio 1.4.4 GDAL 3.10.3
#   expected: three errors
#   seen, as uint8: {300: 255, -1: 0, 1.7: 2}
#   expected: one type; seen: int64 with a shape, float64 without
#   stacked: float64
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 rasterio==1.4.4 shapely==2.2.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings
import numpy as np
import rasterio
from rasterio.features import rasterize
from shapely import box

warnings.simplefilter("ignore")
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
def burnt(value):
    return int(rasterize([(box(0, 0, 2, 2), value)], out_shape=(3, 3), dtype="uint8")[0, 0])
seen = {value: burnt(value) for value in (300, -1, 1.7)}
print("expected: three errors")
print("seen, as uint8:", seen)
filled = rasterize([(box(0, 0, 2, 2), 1)], out_shape=(3, 3)).dtype
empty = rasterize([], out_shape=(3, 3)).dtype
print("expected: one type; seen:", filled, "with a shape,", empty, "without")
print("stacked:", np.stack([np.zeros((3, 3), filled), np.zeros((3, 3), empty)]).dtype)
sys.exit(0 if seen == {300: 255, -1: 0, 1.7: 2} and (filled, empty) == ("int64", "float64") else 1)
PYTHON
