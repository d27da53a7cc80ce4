#!/usr/bin/env bash
# One would guess: moving a label by half a pixel with nearest neighbour gives every pixel once,
#   moved by nothing or by one.
# What happens: OpenCV rounds halves to the even number: every second column is doubled and the
#   others are lost. SciPy moves all columns by one.
# Version: OpenCV 5.0.0, SciPy 1.17.1.
# Why it matters: half pixels are no rarity in augmentation: a turn by 90° about (width / 2,
#   height / 2) where width and height differ by an odd number, a shift by 2.5 px, a grid taken at
#   pixel corners. Lines of one pixel vanish or double, and the image, interpolated, keeps them.
# Source: seen by running; the documentation of the two libraries was not read for this.
# Output as seen:
#   OpenCV 5.0.0 SciPy 1.17.1
#   warpAffine by 0.4 [0, 1, 2, 3, 4, 5, 6, 7]
#   warpAffine by 0.5 [0, 0, 2, 2, 4, 4, 6, 6]
#   warpAffine by 0.6 [99, 0, 1, 2, 3, 4, 5, 6]
#   remap at +0.5      [0, 2, 2, 4, 4, 6, 6, 99]
#   SciPy at +0.5      [1, 2, 3, 4, 5, 6, 7, 99]
#   5×8 turned by 90° about its centre: of the columns 0 to 7 there remain [0, 2, 4, 6]
#   expected: each column once
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 opencv-python-headless==5.0.0.93 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import cv2
import numpy as np
import scipy
from scipy import ndimage

print("OpenCV", cv2.__version__, "SciPy", scipy.__version__)
labels = np.tile(np.arange(8, dtype=np.uint8), (4, 1))
def moved(by):
    return cv2.warpAffine(labels, np.float32([[1, 0, by], [0, 1, 0]]), (8, 4),
                          flags=cv2.INTER_NEAREST, borderValue=99)[0].tolist()
columns, rows = np.meshgrid(np.arange(8, dtype=np.float32) + 0.5, np.arange(4, dtype=np.float32))
remapped = cv2.remap(labels, columns, rows, cv2.INTER_NEAREST, borderValue=99)[0].tolist()
by_scipy = ndimage.map_coordinates(labels, [rows, columns], order=0, cval=99)[0].tolist()
for by in (0.4, 0.5, 0.6):
    print("warpAffine by", by, moved(by))
turn = cv2.getRotationMatrix2D((4, 2.5), 90, 1)
tall = np.tile(np.arange(8, dtype=np.uint8), (5, 1))
turned = cv2.warpAffine(tall, turn, (8, 8), flags=cv2.INTER_NEAREST, borderValue=99)
print("remap at +0.5     ", remapped)
print("SciPy at +0.5     ", by_scipy)
print("5×8 turned by 90° about its centre: of the columns 0 to 7 there remain",
      [int(v) for v in np.unique(turned) if v != 99])
print("expected: each column once")
right = moved(0.5) == [0, 0, 2, 2, 4, 4, 6, 6] and len(set(by_scipy)) == 8
sys.exit(0 if right and len(set(remapped)) < 8 else 1)
PYTHON
