#!/usr/bin/env bash
# One would guess: a 4×4 square whose edges run through pixel centres burns 16 pixels, or 25 if
#   edges count, in either direction of the y axis.
# What happens: with the y axis down (no transform) it burns 16 pixels; with the usual north-up
#   transform 20: five rows, four columns. Two such squares side by side in y both claim the
#   shared row; in x they do not. Moved by 0.01 pixel, the square burns 16.
# Version: rasterio 1.4.4 with GDAL 3.10.3, shapely 2.2.0.
# Why it matters: polygons traced from pixel centres, or scenes whose grid was registered to pixel
#   corners where the labels meant centres, grow by one row and by no column; counts of pixels per
#   class and thin classes change, and the later shape takes the shared row.
# Source: the docstring of rasterize says that pixels are burnt whose centre is within the
#   polygon; it is silent about a centre on the edge.
# Output as seen:
#   rasterio 1.4.4 GDAL 3.10.3
#   expected: the same rows × columns for both directions of y, no pixel in two neighbours
#   y down (4, 4)  north up (5, 4)  north up, 0.01 px off (4, 4)
#   pixels claimed by two neighbours: in y 4  in x 0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 rasterio==1.4.4 shapely==2.2.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.transform import from_origin
from shapely import box

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
north_up = from_origin(0, 10, 1, 1)
def burnt(shape, **keywords):
    mask = rasterize([(shape, 1)], out_shape=(10, 10), dtype="uint8", **keywords)
    return mask, (int(mask.any(1).sum()), int(mask.any(0).sum()))
square = box(1.5, 1.5, 5.5, 5.5)
y_down = burnt(square)[1]
y_up = burnt(square, transform=north_up)[1]
off = burnt(box(1.51, 1.51, 5.51, 5.51), transform=north_up)[1]
def shared(first, second):
    a, b = (burnt(each, transform=north_up)[0] for each in (first, second))
    return int((a & b).sum())
in_y = shared(box(1.5, 1.5, 5.5, 4.5), box(1.5, 4.5, 5.5, 8.5))
in_x = shared(box(1.5, 1.5, 4.5, 5.5), box(4.5, 1.5, 8.5, 5.5))
print("expected: the same rows × columns for both directions of y, no pixel in two neighbours")
print("y down", y_down, " north up", y_up, " north up, 0.01 px off", off)
print("pixels claimed by two neighbours: in y", in_y, " in x", in_x)
sys.exit(0 if (y_down, y_up, off, in_y, in_x) == ((4, 4), (5, 4), (4, 4), 4, 0) else 1)
PYTHON
