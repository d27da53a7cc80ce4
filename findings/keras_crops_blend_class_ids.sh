#!/usr/bin/env bash
# One would guess: a mask that is smaller than the crop asked for is padded, or enlarged with nearest
#   as Keras's other layers do for segmentation_masks; in any case only ids of the mask come out.
# What happens: CenterCrop and RandomCrop enlarge image and mask alike with bilinear resizing, and the
#   mask becomes float32: between class 0 and class 7 lie 1.17 and 5.83.
#   The Resizing layer keeps the ids of segmentation_masks.
# Version: Keras 3.15.1 (on JAX 0.10.2).
# Why it matters: one image narrower than the crop is enough to train on classes that are not there;
#   cast to integers, the edge between road (0) and sky (7) becomes a rim of classes 1 and 5, and the
#   edge of an area to ignore (255) a rim of numbers in between.
# Source: seen by running, and read in center_crop.py and random_crop.py of the version above.
# Output as seen:
#   expected: only [0, 7] in each line
#   Resizing   int32 [0, 7]
#   CenterCrop float32 [0.0, 1.17, 5.83, 7.0]
#   RandomCrop float32 [0.0, 1.17, 5.83, 7.0]
#   CenterCrop of a mask that is large enough float32 [0.0, 7.0]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile numpy==2.4.6 keras==3.15.1 jax==0.10.2
cd "$folder"
KERAS_BACKEND=jax JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import sys
import warnings

warnings.simplefilter("ignore")
import keras
import numpy as np

masks_BHWC = np.zeros((2, 4, 4, 1), np.int32)
masks_BHWC[:, :, 2:] = 7
images_BHWC = np.zeros((2, 4, 4, 3), np.float32)
def classes(name, layer):
    out = layer({"images": images_BHWC, "segmentation_masks": masks_BHWC}, training=True)
    mask = np.asarray(out["segmentation_masks"])
    ids = sorted({round(float(value), 2) for value in np.unique(mask)})
    print(f"{name:10}", mask.dtype, ids if mask.dtype.kind == "f" else [int(value) for value in ids])
    return ids
print("expected: only [0, 7] in each line")
resized = classes("Resizing", keras.layers.Resizing(6, 6))
centred = classes("CenterCrop", keras.layers.CenterCrop(6, 6))
random = classes("RandomCrop", keras.layers.RandomCrop(6, 6, seed=0))
large = classes("CenterCrop of a mask that is large enough", keras.layers.CenterCrop(2, 2))
sys.exit(not (resized == large == [0, 7] and centred == random == [0, 1.17, 5.83, 7]))
PYTHON
