#!/usr/bin/env bash
# One would guess: a greyscale label file of 4 bits a pixel gives the numbers 0 to 15 in every
#   reader, or at least in all readers of the same format.
# What happens: GDAL gives 0 to 15; Pillow and OpenCV multiply by 17 (PNG), Pillow does the same
#   for a GeoTIFF of NBITS=4, and OpenCV reads that GeoTIFF as nothing at all. With 2 bits the
#   factor is 85. A palette file of 4 bits is not multiplied.
# Version: Pillow 13.0.0, OpenCV 5.0.0, rasterio 1.4.4 with GDAL 3.10.3.
# Why it matters: tools that shrink PNG files, and NBITS, store labels of few classes so. Class 3
#   becomes 51 in one reader and stays 3 in the next; class 15 becomes 255, the usual number of
#   pixels to ignore, so that it silently vanishes from loss and scores.
# Source: seen by running; the documentation of the readers was not read for this.
# Output as seen:
#   Pillow 13.0.0 OpenCV 5.0.0 GDAL 3.10.3
#   l.png GDAL [[0, 1, 2, 3, 4, 15]] Pillow [[0, 17, 34, 51, 68, 255]] OpenCV [[0, 17, 34, 51, 68, 255]]
#   l.tif GDAL [[0, 1, 2, 3, 4, 15]] Pillow [[0, 17, 34, 51, 68, 255]] OpenCV None
#   expected: [[0, 1, 2, 3, 4, 15]] six times
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 rasterio==1.4.4 pillow==13.0.0 opencv-python-headless==5.0.0.93
cd "$folder"
venv/bin/python - <<'PYTHON'
import os
import struct
import sys
import warnings
import zlib

os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
import cv2
import numpy as np
import PIL
import rasterio
from PIL import Image

warnings.simplefilter("ignore")
print("Pillow", PIL.__version__, "OpenCV", cv2.__version__, "GDAL", rasterio.__gdal_version__)
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
with open("l.png", "wb") as file:  # one row, six pixels of 4 bits, grey
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 1, 4, 0, 0, 0, 0))
               + chunk(b"IDAT", zlib.compress(bytes([0, 0x01, 0x23, 0x4F]))) + chunk(b"IEND", b""))
labels = np.array([[0, 1, 2, 3, 4, 15]], np.uint8)
with rasterio.open("l.tif", "w", driver="GTiff", width=6, height=1, count=1, dtype="uint8",
                   nbits=4) as file:
    file.write(labels, 1)
seen = {}
for path in ("l.png", "l.tif"):
    by_cv2 = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    with rasterio.open(path) as file:
        seen[path] = (file.read(1).tolist(), np.asarray(Image.open(path)).tolist(),
                      None if by_cv2 is None else by_cv2.tolist())
    print(path, "GDAL", seen[path][0], "Pillow", seen[path][1], "OpenCV", seen[path][2])
print("expected:", labels.tolist(), "six times")
stored, scaled = labels.tolist(), (labels * 17).tolist()
right = seen == {"l.png": (stored, scaled, scaled), "l.tif": (stored, scaled, None)}
sys.exit(0 if right else 1)
PYTHON
