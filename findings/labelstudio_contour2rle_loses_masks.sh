#!/usr/bin/env bash
# One would guess: contour2rle(contours, 0, img_width, img_height) gives the brush mask of a contour
#   that OpenCV found in an image of that width and height.
# What happens: it draws on an array of img_width rows and img_height columns. The mask is decoded as
#   img_height rows, so that every image that is not square gets another shape in another place; what
#   lies right of column img_height is lost, without an error. The numbers of bytes fit, so that
#   nothing that reads the mask can tell. Besides, the mask has opacity 100 of 255.
# Version: label-studio-sdk 2.1.2, OpenCV 4.12.0.
# Why it matters: it is the function of the package that makes predictions of contours. On images of
#   landscape format the right side comes out empty; square test images show nothing.
# Source: seen by running, and read in label_studio_sdk/converter/brush.py of the version above.
# Output as seen:
#   square 12 x 12: 12 of 12 pixels are right
#   wide 12 x 6: 0 of 12 pixels are right, 0 pixels are in the mask
#   opacity of the mask: [0, 100]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2 opencv-python-headless==4.12.0.88
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import cv2
import numpy as np
from label_studio_sdk.converter import brush

right = {}
for kind, width, height in (("square", 12, 12), ("wide", 12, 6)):
    mask_HW = np.zeros((height, width), np.uint8)
    mask_HW[1:4, 7:11] = 1
    contours, _ = cv2.findContours(mask_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    packed = brush.contour2rle(contours, 0, width, height)
    alpha_HW = brush.decode_rle(packed).reshape(height, width, 4)[..., 3]
    inside = int(((alpha_HW > 0) & (mask_HW > 0)).sum())
    line = f"{kind} {width} x {height}: {inside} of {mask_HW.sum()} pixels are right"
    print(line if kind == "square" else f"{line}, {(alpha_HW > 0).sum()} pixels are in the mask")
    right[kind] = inside
    if kind == "square":
        opacity = np.unique(alpha_HW).tolist()
print("opacity of the mask:", opacity)
sys.exit(not (right == {"square": 12, "wide": 0} and opacity == [0, 100]))
PYTHON
