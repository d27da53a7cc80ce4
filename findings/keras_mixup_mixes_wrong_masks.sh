#!/usr/bin/env bash
# One would guess: MixUp blends one-hot segmentation_masks as it blends their images, or refuses them.
# What happens: it takes the partners from the flattened batch of masks, so that every mask of the
#   batch is blended with the same few values from the start of the first mask, spread over the last
#   axis. Masks that equal their images come out unequal to them. Class ids of one channel get as many
#   channels as the batch has images. Where the numbers of classes and of images differ, one-hot masks
#   raise; where they are equal nothing is said.
# Version: Keras 3.15.1 (on JAX 0.10.2).
# Why it matters: the images are mixed right, so that training runs and looks right, while the masks
#   beside them are those of no image in the batch. CutMix does masks right.
# Source: seen by running, and read in mix_up.py of the version above (take without an axis).
# Output as seen:
#   expected: each mask is mixed as its image is
#   image [0.56 0.44 0.  ] mask [0.56 0.   0.44]
#   image [0.   0.66 0.34] mask [0.   0.66 0.34]
#   image [0.57 0.   0.43] mask [0. 0. 1.]
#   CutMix: masks mixed as the images are: True
#   class ids of shape (3, 2, 2, 1) come out with shape (3, 2, 2, 3)
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

# Three images of 2 x 2 pixels; image k is all class k, and its channels are its one-hot mask.
one_hot_BHWC = np.broadcast_to(np.eye(3, dtype=np.float32)[:, None, None, :], (3, 2, 2, 3)).copy()
ids_BHWC = one_hot_BHWC.argmax(-1)[..., None]
def mix(layer, masks_BHWC):
    out = layer({"images": one_hot_BHWC, "segmentation_masks": masks_BHWC,
                 "labels": np.eye(3, dtype=np.float32)}, training=True)
    return np.asarray(out["images"]), np.asarray(out["segmentation_masks"])
images, masks = mix(keras.layers.MixUp(alpha=4.0, seed=3), one_hot_BHWC)
print("expected: each mask is mixed as its image is")
for number in range(3):
    print("image", images[number, 0, 0].round(2), "mask", masks[number, 0, 0].round(2))
cut_images, cut_masks = mix(keras.layers.CutMix(seed=0), one_hot_BHWC)
print("CutMix: masks mixed as the images are:", bool((cut_images == cut_masks).all()))
_, ids = mix(keras.layers.MixUp(alpha=4.0, seed=3), ids_BHWC)
print("class ids of shape", ids_BHWC.shape, "come out with shape", ids.shape)
sums_right = np.allclose(images.sum(-1), 1)
wrong = [not np.allclose(images[number], masks[number]) for number in range(3)]
sys.exit(not (sums_right and sum(wrong) >= 2 and (cut_images == cut_masks).all()
              and ids.shape == (3, 2, 2, 3)))
PYTHON
