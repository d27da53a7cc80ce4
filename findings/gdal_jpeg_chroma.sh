#!/usr/bin/env bash
# One would guess: all common readers sit on libjpeg-turbo and give the same pixels for the same
#   JPEG file, or differ by one level.
# What happens: Pillow and OpenCV agree to the bit. GDAL differs by 10 to 40 levels wherever
#   colours are subsampled (4:2:0, 4:2:2), as if it repeated the chroma samples that the others
#   interpolate. With 4:4:4 all three agree to the bit.
# Version: rasterio 1.4.4 with GDAL 3.10.3, Pillow 13.0.0, OpenCV 5.0.0.
# Why it matters: a model trained on tiles read by Pillow and served by GDAL, or scored on a
#   mosaic, gets other colours at every coloured edge, where boundaries of classes lie. No test on
#   grey or 4:4:4 images shows it.
# Source: seen by running; that chroma is repeated rather than interpolated is inferred from 4:4:4
#   being equal. The page of the JPEG driver of GDAL was not read for this.
# Output as seen:
#   GDAL 3.10.3 Pillow 13.0.0 OpenCV 5.0.0
#   4:4:4 largest difference of Pillow to OpenCV 0 to GDAL 0
#   4:2:2 largest difference of Pillow to OpenCV 0 to GDAL 11
#   4:2:0 largest difference of Pillow to OpenCV 0 to GDAL 17
#   expected: at most 1 everywhere
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 rasterio==1.4.4 pillow==13.0.0 opencv-python-headless==5.0.0.93
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings
import cv2
import numpy as np
import PIL
import rasterio
from PIL import Image

warnings.simplefilter("ignore")
print("GDAL", rasterio.__gdal_version__, "Pillow", PIL.__version__, "OpenCV", cv2.__version__)
image_HWC = np.zeros((32, 48, 3), np.uint8)
image_HWC[:, :25] = (200, 40, 40)
image_HWC[:, 25:] = (40, 40, 200)
image_HWC[13:, :] = image_HWC[13:, ::-1]
seen = {}
for name, subsampling in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
    Image.fromarray(image_HWC).save("i.jpg", quality=95, subsampling=subsampling)
    by_pillow = np.asarray(Image.open("i.jpg")).astype(int)
    by_opencv = cv2.imread("i.jpg")[..., ::-1].astype(int)
    with rasterio.open("i.jpg") as file:
        by_gdal = np.moveaxis(file.read(), 0, 2).astype(int)
    seen[name] = (int(abs(by_pillow - by_opencv).max()), int(abs(by_pillow - by_gdal).max()))
    print(name, "largest difference of Pillow to OpenCV", seen[name][0], "to GDAL", seen[name][1])
print("expected: at most 1 everywhere")
right = all(opencv == 0 for opencv, _ in seen.values()) and seen["4:4:4"][1] == 0
sys.exit(0 if right and seen["4:2:2"][1] > 10 and seen["4:2:0"][1] > 10 else 1)
PYTHON
