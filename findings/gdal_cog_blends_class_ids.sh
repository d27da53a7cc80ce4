#!/usr/bin/env bash
# One would guess: a Cloud Optimised GeoTIFF made from a raster of class ids by the COG driver, with
#   its default settings, holds no other ids in its overviews; and AVERAGE of one with a palette
#   gives one of the classes below each pixel.
# What happens: without a palette the default is CUBIC, whatever the type, and overviews hold dozens
#   of ids that are in no pixel of the raster. With a palette AVERAGE averages the colours and takes
#   the class whose colour is nearest: water and forest become what lies between blue and green.
# Version: rasterio 1.4.4 with GDAL 3.10.3.
# Why it matters: a class map of uint16 (or uint8 without a palette) that is published as COG shows
#   classes that do not exist when it is zoomed out, and programs that read it at a lower resolution
#   count them. MODE does neither.
# Source: the page of the COG driver names nearest for palettes and cubic otherwise; it does not say
#   that whole numbers may be classes.
# Output as seen:
#   rasterio 1.4.4 GDAL 3.10.3
#   default, no palette: 33 ids that are in no pixel
#   AVERAGE, palette:    19 % of pixels have a class that is not below them
#   MODE, either:        0 ids, 0 %
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 rasterio==1.4.4
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
ids = np.array([10, 20, 30, 40], np.uint8)
labels = np.random.default_rng(0).choice(ids, (350, 350)).repeat(3, 0).repeat(3, 1)
below = [labels[row::2, column::2] for row in (0, 1) for column in (0, 1)]


def half(palette, **options):
    with rasterio.open("plain.tif", "w", driver="GTiff", width=1050, height=1050, count=1,
                       dtype="uint8", transform=from_origin(0, 1050, 1, 1),
                       crs="EPSG:32633") as file:
        file.write(labels, 1)
        if palette:
            file.write_colormap(1, {int(k): (int(k), 0, 255, 255) for k in ids})
    rasterio.shutil.copy("plain.tif", "cog.tif", driver="COG", **options)
    with rasterio.open("cog.tif", overview_level=0) as file:
        found = file.read(1)
    strange = np.all([found != part for part in below], axis=0)
    return len(set(np.unique(found)) - set(ids)), round(100 * strange.mean())


default, _ = half(False)
_, average = half(True, OVERVIEW_RESAMPLING="AVERAGE")
modes = [half(palette, OVERVIEW_RESAMPLING="MODE") for palette in (False, True)]
print(f"default, no palette: {default} ids that are in no pixel")
print(f"AVERAGE, palette:    {average} % of pixels have a class that is not below them")
print("MODE, either:       ", " and ".join(f"{k} ids, {share} %" for k, share in sorted(set(modes))))
sys.exit(0 if default > 0 and average > 0 and modes == [(0, 0), (0, 0)] else 1)
PYTHON
