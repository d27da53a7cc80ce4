#!/usr/bin/env bash
# One would guess: a class number that the point format cannot hold is refused, whichever the
#   format.
# What happens: formats 0 to 5 (at most 31) raise an OverflowError; formats 6 to 10 (at most 255)
#   store the number modulo 256: 300 becomes 44, 258 becomes 2, ground.
# Version: laspy 2.7.0, NumPy 2.4.6.
# Why it matters: projecting a segmentation onto a point cloud and moving to the newer formats
#   "because more classes fit" turns an error into wrong classes: 256 + n becomes the standard
#   class n.
# Source: seen by running; the documentation of laspy was not read for this.
# Output as seen:
#   laspy 2.7.0 numpy 2.4.6
#   point format 3 given [1, 31, 40] seen OverflowError: value 40 is greater than allowed (max: 31)
#   point format 6 given [1, 258, 300] seen [1, 2, 44]
#   expected: an error from both
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 laspy==2.7.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import laspy
import numpy as np

print("laspy", laspy.__version__, "numpy", np.__version__)
seen = []
for point_format, version, numbers in ((3, "1.2", [1, 31, 40]), (6, "1.4", [1, 258, 300])):
    cloud = laspy.create(point_format=point_format, file_version=version)
    cloud.x = np.arange(3.0)
    try:
        cloud.classification = np.array(numbers)
        seen.append(np.asarray(cloud.classification).tolist())
    except OverflowError as error:
        seen.append(f"OverflowError: {error}")
    print("point format", point_format, "given", numbers, "seen", seen[-1])
print("expected: an error from both")
sys.exit(0 if str(seen[0]).startswith("OverflowError") and seen[1] == [1, 2, 44] else 1)
PYTHON
