#!/usr/bin/env bash
# One would guess: the area of a polygon in longitude and latitude is the same with and without
#   points that lie on its straight sides.
# What happens: a side is the geodesic between its two ends, which leaves the parallel towards the
#   pole. Where one side has few points and the side across from it has many, as the outlines of
#   raster classes have, the bow is not made up for.
# Version: pyproj 3.7.2, shapely 2.2.0.
# Why it matters: areas of polygons made from class maps depend on whether their outlines were
#   simplified without moving anything, by far more than the ellipsoid's own precision. QGIS 3.22
#   measures the same way. Densify to the side of a pixel first, or integrate along the side.
# Source: the page of pyproj's Geod says that sides are geodesics, not what that does to sides that
#   are straight on a map.
# Output as seen:
#   pyproj 3.7.2 shapely 2.2.0
#   between two parallels, one degree long, 0.01 degrees high, 60 degrees north:
#   both sides with 1001 points    62.1587 km2
#   lower side with 2, upper 1001  58.2369 km2
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    numpy==2.4.6 pyproj==3.7.2 shapely==2.2.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import pyproj
import shapely

print("pyproj", pyproj.__version__, "shapely", shapely.__version__)
print("between two parallels, one degree long, 0.01 degrees high, 60 degrees north:")
geod = pyproj.Geod(ellps="WGS84")


def strip(lower, upper):
    points = [(x, 60.0) for x in np.linspace(10, 11, lower)]
    points += [(x, 60.01) for x in np.linspace(11, 10, upper)]
    return shapely.Polygon(points)


many, few = strip(1001, 1001), strip(2, 1001)
assert shapely.equals(many, few)  # the same set of points in the plane of degrees
areas = [abs(geod.geometry_area_perimeter(each)[0]) / 1e6 for each in (many, few)]
print(f"both sides with 1001 points    {areas[0]:.4f} km2")
print(f"lower side with 2, upper 1001  {areas[1]:.4f} km2")
sys.exit(0 if abs(areas[1] / areas[0] - 1) > 0.01 else 1)
PYTHON
