#!/usr/bin/env bash
# One would guess: validate_prediction, which checks a prediction against the labelling configuration
#   before it is sent, refuses a brush mask that cannot be shown on its image.
# What happens: any list of numbers from 0 to 255 is valid: one that the decoder of the same package
#   cannot read, the mask of an image of another size, a mask of 0 and 1 (whose opacity is 1 of 255).
#   mask2rle takes integers, and a value of 300 makes nine bits where eight belong: what follows in
#   the stream is shifted, and this is valid, too.
# Version: label-studio-sdk 2.1.2.
# Why it matters: a prediction that passes may show as nothing. Decode what was encoded and compare.
# Source: seen by running, and read in label_studio_sdk/label_interface/control_tags.py and
#   converter/brush.py of the version above.
# Output as seen:
#   valid: cannot be decoded True, another size True, 0 and 1 True, 300 True
#   opacity of 0 and 1: [0, 1]
#   values of a mask of 300: [150]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

interface = LabelInterface(
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="classes" toName="image"><Label value="road"/></BrushLabels></View>'
)
mask_HW = np.zeros((6, 12), np.uint8)
mask_HW[1:4, 7:11] = 1
large = brush.mask2rle(np.full((1, 1), 300))
masks = {
    "cannot be decoded": [7],
    "another size": brush.mask2rle(np.full((3, 3), 255, np.uint8)),
    "0 and 1": brush.mask2rle(mask_HW),
    "300": large,
}
valid = {}
for name, packed in masks.items():
    region = {
        "id": "1", "type": "brushlabels", "from_name": "classes", "to_name": "image",
        "original_width": 12, "original_height": 6, "image_rotation": 0,
        "value": {"format": "rle", "rle": packed, "brushlabels": ["road"]},
    }
    valid[name] = interface.validate_prediction(
        {"model_version": "1", "score": 0.5, "result": [region]}
    )
print("valid:", ", ".join(f"{name} {answer}" for name, answer in valid.items()))
try:
    brush.decode_rle([7])
    decoded = True
except ValueError:
    decoded = False
opacity = np.unique(brush.decode_rle(masks["0 and 1"])).tolist()
print("opacity of 0 and 1:", opacity)
values = np.unique(brush.decode_rle(large)).tolist()
print("values of a mask of 300:", values)
seen = all(valid.values()) and not decoded and opacity == [0, 1] and values == [150]
sys.exit(not seen)
PYTHON
