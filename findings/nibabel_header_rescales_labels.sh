#!/usr/bin/env bash
# One would guess: saving a label map with the header of another image keeps whole numbers whole:
#   the file takes the type of the array, or a number that does not fit is refused.
# What happens: the file keeps the type of the old header and the labels are scaled into it: int16
#   labels up to 300 in a uint8 header read back as 0, 1.176…, 2.353…, 300; floats 0, 1, 2, 5 as
#   1.00000004 and so on, so that comparing with 1 finds no pixel.
# Version: nibabel 5.4.2, NumPy 2.4.6.
# Why it matters: copying affine and header from the source volume is the usual way to write a
#   prediction. A label map so written has no class 1 left, and a scorer that truncates counts
#   some labels one class too low.
# Source: seen by running; the documentation of nibabel was not read for this.
# Output as seen:
#   nibabel 5.4.2 numpy 2.4.6
#   int16 saved [0, 1, 2, 300] as uint8 read [0.0, 1.1764706373214722, 2.3529412746429443, 300.0000125169754] pixels equal to 1: 0
#   float64 saved [0.0, 1.0, 2.0, 5.0] as uint8 read [0.0, 1.0000000353902578, 2.0000000707805157, 5.000000176951289] pixels equal to 1: 0
#   expected: the numbers saved, 2 pixels equal to 1 each
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 nibabel==5.4.2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import nibabel
import numpy as np

print("nibabel", nibabel.__version__, "numpy", np.__version__)
source = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
seen = []
for labels in (np.array([0, 1, 2, 300] * 2, np.int16), np.array([0.0, 1.0, 2.0, 5.0] * 2)):
    image = nibabel.Nifti1Image(labels.reshape(2, 2, 2), source.affine, source.header)
    nibabel.save(image, "l.nii")
    read = nibabel.load("l.nii")
    values = np.asanyarray(read.dataobj)
    seen.append(int((values == 1).sum()))
    print(labels.dtype, "saved", np.unique(labels).tolist(), "as", read.get_data_dtype(),
          "read", np.unique(values).tolist(), "pixels equal to 1:", seen[-1])
print("expected: the numbers saved, 2 pixels equal to 1 each")
sys.exit(0 if seen == [0, 0] else 1)
PYTHON
