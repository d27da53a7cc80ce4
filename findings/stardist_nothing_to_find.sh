#!/usr/bin/env bash
# One would guess: an image without an object in which none is predicted counts as right (1), or is
#   left out of the mean.
# What happens: matching gives it 0 for precision, recall, F1, accuracy and panoptic quality, and
#   matching_dataset(by_image=True) takes that into the mean: a perfect prediction of one image with
#   and three without objects has F1 0.25. A false object in such an image costs nothing more.
#   With by_image=False, the default, the counts are summed and the perfect prediction has 1.
# Version: stardist 0.9.2.
# Why it matters: the mean over images falls with every empty tile of a set, for right and wrong
#   predictions alike, and cannot be compared between sets with other shares of empty tiles.
# Source: seen by running; the documentation was not read for this.
# Output as seen:
#   expected: perfect predictions 1.0 twice; lower with a false object in each empty image
#   matching of two empty images: precision 0 f1 0 panoptic quality 0.0
#   perfect prediction of 1 image with and 3 without objects: f1 1.0 summed, 0.25 by image
#   with a false object in each of the 3: f1 0.57 summed, 0.25 by image
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile numpy==2.4.6 stardist==0.9.2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings

warnings.simplefilter("ignore")
import numpy as np
from stardist.matching import matching, matching_dataset

empty = np.zeros((16, 16), int)
cells = empty.copy()
cells[2:8, 2:8] = 1
cells[9:15, 9:15] = 2
false = empty.copy()
false[4:8, 4:8] = 1
print("expected: perfect predictions 1.0 twice; lower with a false object in each empty image")
nothing = matching(empty, empty)
print("matching of two empty images: precision", nothing.precision, "f1", nothing.f1,
      "panoptic quality", nothing.panoptic_quality)
def f1(predicted):
    return [round(float(matching_dataset([cells, empty, empty, empty], predicted, by_image=by_image,
                                         show_progress=False).f1), 2) for by_image in (False, True)]
perfect, wrong = f1([cells, empty, empty, empty]), f1([cells, false, false, false])
print(f"perfect prediction of 1 image with and 3 without objects: f1 {perfect[0]} summed, {perfect[1]} by image")
print(f"with a false object in each of the 3: f1 {wrong[0]} summed, {wrong[1]} by image")
sys.exit(not (nothing.f1 == nothing.panoptic_quality == 0 and perfect == [1.0, 0.25] and wrong[1] == 0.25))
PYTHON
