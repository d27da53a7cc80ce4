#!/usr/bin/env bash
# One would guess: a TIFF of two pages, a picture and a mask of half its size, is two series of one page
#   each, since nothing (NewSubfileType, SubIFDs, a description) calls the second a reduced image.
# What happens: it is one series, and the mask is the second level of its pyramid, in strips as in
#   tiles. A mask of 31 rows in place of 32 makes two series.
# Version: tifffile 2026.3.3.
# Why it matters: who takes `levels` for smaller copies shows a mask for the picture, and who counts
#   series to refuse files of several images lets this one pass.
# Source: seen by running.
# Output as seen:
#   mask of 32 rows, strips: [[(64, 64), (32, 32)]]
#   mask of 32 rows, tiles: [[(64, 64), (32, 32)]]
#   mask of 31 rows, strips: [[(64, 64)], [(31, 32)]]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "tifffile==2026.3.3"
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
import tifffile

PICTURE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def levels(rows, **layout):
    with tifffile.TiffWriter("a.tif") as writer:
        for page in (PICTURE, np.ones((rows, 32), np.uint16)):
            writer.write(page, metadata=None, **layout)
    with tifffile.TiffFile("a.tif") as file:
        assert [int(page.subfiletype) for page in file.pages] == [0, 0]
        found = [[level.shape for level in series.levels] for series in file.series]
    print(f"mask of {rows} rows, {'tiles' if layout else 'strips'}: {found}")
    return found


taken = [levels(32), levels(32, tile=(16, 16))]
other = levels(31)
sys.exit(not (all(each == [[(64, 64), (32, 32)]] for each in taken) and len(other) == 2))
PYTHON
