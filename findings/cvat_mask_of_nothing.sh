#!/usr/bin/env bash
# One would guess: encode_mask of a mask without a pixel raises, or gives an empty list.
# What happens: it gives [1, 0, 0, 0, 0], a mask whose box is the first pixel of the image and which
#   holds no pixel. It decodes without an error, and the API's model takes it as a shape.
# Version: cvat-sdk 2.80.0.
# Why it matters: an auto-annotation function that makes one mask a class sends an invisible shape for
#   each class that an image does not show, on every image, at its upper left corner.
# Source: seen by running, and read in cvat_sdk/masks.py of the version above.
# Output as seen:
#   encoded: [1, 0, 0, 0, 0]
#   pixels of the mask that comes out: 0
#   shape that would be sent: mask [1.0, 0.0, 0.0, 0.0, 0.0]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "cvat-sdk[masks]==2.80.0"
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import numpy as np
from cvat_sdk import auto_annotation
from cvat_sdk.masks import decode_mask, encode_mask

encoded = encode_mask(np.zeros((4, 6), bool))
print("encoded:", encoded)
pixels = int(decode_mask(encoded, image_width=6, image_height=4).sum())
print("pixels of the mask that comes out:", pixels)
shape = auto_annotation.mask(0, encoded)
print("shape that would be sent:", shape.type.value, list(shape.points))
sys.exit(not (encoded == [1, 0, 0, 0, 0] == list(shape.points) and pixels == 0))
PYTHON
