#!/usr/bin/env bash
# One would guess: a nodata value that int64 holds and that is exact in a double, such as the least
#   int64, is the one that is read back.
# What happens: rasterio hands every nodata value to GDAL as a double, which writes it with an
#   exponent from 1e17 on; of 64-bit integers GDAL reads the digits before the point alone. So
#   -9223372036854775808 comes back as -9, and 10**17 as 1.
# Version: rasterio 1.4.4 with GDAL 3.10.3; the same in 1.5.2 with GDAL 3.12.2.
# Why it matters: pixels without data count, and those of value 1 or -9, which may be a class, do
#   not; nothing is said.
# Source: the GDAL documentation sends those to SetNoDataValueAsInt64 (from 3.5 on) whose value a
#   double may not hold; a double holds these.
# Output as seen:
#   rasterio 1.4.4 GDAL 3.10.3
#   wrote -9999 read -9999.0 masked pixels 4
#   wrote -9223372036854775808 read -9.0 masked pixels 0
#   wrote 100000000000000000 read 1.0 masked pixels 12
#   expected: every value as it was written, 4 masked pixels
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

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 392000, 0, -2, 5820000)}
seen = []
for nodata in (-9999, -(2**63), 10**17):
    values = np.ones((4, 4), np.int64)
    values[0] = nodata
    with rasterio.open("a.tif", "w", driver="GTiff", height=4, width=4, count=1, dtype="int64",
                       nodata=nodata, **place) as written:
        written.write(values, 1)
    with rasterio.open("a.tif") as found:
        seen.append((found.nodata, int((found.read_masks(1) == 0).sum())))
    print("wrote", nodata, "read", seen[-1][0], "masked pixels", seen[-1][1])
print("expected: every value as it was written, 4 masked pixels")
sys.exit(0 if seen == [(-9999.0, 4), (-9.0, 0), (1.0, 12)] else 1)
PYTHON
