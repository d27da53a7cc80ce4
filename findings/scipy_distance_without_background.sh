#!/usr/bin/env bash
# One would guess: distance_transform_edt of an array without a zero gives infinity, or raises.
# What happens: it gives the distances to a pixel that does not exist, one row above the upper left
#   corner: whole plausible numbers from 1 upwards. scipy's other two transforms give -1 and 1e154.
#   scikit-image builds on it: isotropic_erosion of a mask without background takes away the
#   surroundings of that one corner, and isotropic_closing makes such a mask smaller.
# Version: SciPy 1.17.1, scikit-image 0.26.0.
# Why it matters: signed distance maps for boundary and Hausdorff losses, watershed seeds and pixel
#   weights are made so. A tile that is all foreground (or, with the inverted mask, all background)
#   gets a slope from one corner to the other as its target.
# Source: seen by running.
# Output as seen:
#   expected: inf in every pixel, or an error
#   distance_transform_edt of a 3 x 5 mask without background:
#   [[1.   1.41 2.24 3.16 4.12]
#    [2.   2.24 2.83 3.61 4.47]
#    [3.   3.16 3.61 4.24 5.  ]]
#   chessboard: -1 brute force: 1.3e+154
#   the lower right corner of 100 x 100: 140.7 of the upper left one: 1.0
#   isotropic_erosion by 3 of 9 x 9 keeps 74 of 81 pixels; lost at the four corners: 7 0 0 0
#   isotropic_closing by 2 of 5 x 5 keeps 22 of 25 pixels
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from scipy import ndimage
from skimage import morphology

print("expected: inf in every pixel, or an error")
mask = np.ones((3, 5), bool)
distance = ndimage.distance_transform_edt(mask)
print("distance_transform_edt of a 3 x 5 mask without background:\n" + str(distance.round(2)))
chessboard = ndimage.distance_transform_cdt(mask)
brute_force = ndimage.distance_transform_bf(mask)
print("chessboard:", chessboard[0, 0], f"brute force: {brute_force[0, 0]:.1e}")
large = ndimage.distance_transform_edt(np.ones((100, 100), bool))
print(f"the lower right corner of 100 x 100: {large[-1, -1]:.1f} of the upper left one: {large[0, 0]:.1f}")
lost = ~morphology.isotropic_erosion(np.ones((9, 9), bool), 3)
corners = [int(part.sum()) for part in (lost[:4, :4], lost[:4, 5:], lost[5:, :4], lost[5:, 5:])]
print("isotropic_erosion by 3 of 9 x 9 keeps", int((~lost).sum()), "of 81 pixels;",
      "lost at the four corners:", *corners)
closed = int(morphology.isotropic_closing(np.ones((5, 5), bool), 2).sum())
print("isotropic_closing by 2 of 5 x 5 keeps", closed, "of 25 pixels")
rows, columns = np.indices(mask.shape)
phantom = np.hypot(rows + 1, columns)
as_stated = (np.allclose(distance, phantom) and (chessboard == -1).all() and (brute_force > 1e150).all()
             and corners == [7, 0, 0, 0] and closed == 22)
sys.exit(not as_stated)
PYTHON
