#!/usr/bin/env bash
# One would guess: make_valid of a MultiPolygon with overlapping parts gives their union, as
#   buffer(0) does: nothing that was covered is lost.
# What happens: by default the area covered twice is cut out. A part inside another becomes a
#   hole; two overlapping squares lose the overlap. method="structure" gives the union. rasterize
#   burns the invalid original in full.
# Version: shapely 2.2.0 (GEOS of its wheel), rasterio 1.4.4.
# Why it matters: repairing label polygons before they are burnt removes labels: a building drawn
#   on top of its block in one MultiPolygon becomes a hole of background, and the repair reports
#   nothing.
# Source: the docstring of make_valid says that the default assigns areas by an even-odd rule, so
#   it can be worked out; that covered area is thereby lost is not said.
# Output as seen:
#   shapely 2.2.0 GEOS 3.14.1 rasterio 1.4.4
#   nested pixels: as drawn 16, make_valid 12, buffer(0) 16, structure 16
#   overlapping pixels: as drawn 28, make_valid 24, buffer(0) 28, structure 28
#   expected: four times the same number
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 shapely==2.2.0 rasterio==1.4.4
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize
from shapely import MultiPolygon, box, make_valid

print("shapely", shapely.__version__, "GEOS", shapely.geos_version_string,
      "rasterio", rasterio.__version__)
def pixels(shape):
    return int(rasterize([(shape, 1)], out_shape=(8, 8), dtype="uint8").sum())
seen = []
for name, shape in (("nested", MultiPolygon([box(0, 0, 4, 4), box(1, 1, 3, 3)])),
                    ("overlapping", MultiPolygon([box(0, 0, 4, 4), box(2, 2, 6, 6)]))):
    seen.append(tuple(pixels(each) for each in (
        shape, make_valid(shape), shape.buffer(0),
        make_valid(shape, method="structure", keep_collapsed=False))))
    print(name, "pixels: as drawn %d, make_valid %d, buffer(0) %d, structure %d" % seen[-1])
print("expected: four times the same number")
sys.exit(0 if seen == [(16, 12, 16, 16), (28, 24, 28, 28)] else 1)
PYTHON
