"""How far apart a trained UNet and its conversion are on real images.

    terrazzo run --config recipes/camvid/unet_quick.toml --backend torch
    terrazzo convert runs/camvid_unet_quick --to keras
    python benchmarks/parity.py runs/camvid_unet_quick runs/camvid_unet_quick_keras

Prints the largest difference of the logits (up to a constant a pixel, which the softmax removes)
and the share of pixels with another label, over the test split at the size the model sees. Each
model runs in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PREDICT = """
import sys
from pathlib import Path
import numpy as np
from terrazzo.data import datasets, loader
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
recipe = folder.read_config()
card, trainer = saved_model.load(folder.model)
split = datasets.open_split(recipe.data, "test")
samples = loader.evaluation_samples(split, recipe.data, recipe.loader, world=trainer.world)
np.save(sys.argv[2], np.concatenate([trainer.predict(image[None]) for _, image, _ in samples]))
"""


def main() -> None:
    """Print two lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs=2)
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as place:
        for number, run in enumerate(arguments.runs):
            out = Path(place) / f"{number}.npy"
            command = [sys.executable, "-c", PREDICT, run, str(out)]
            subprocess.run(command, check=True)
            found.append(np.load(out).astype(np.float64))
    # The mean of the logarithms is taken off, the constant; tiny probabilities are too coarse.
    logits = [np.log(np.maximum(p, 1e-30)) for p in found]
    seen = np.minimum(*found) > 1e-6
    apart = np.abs(np.subtract(*(z - z.mean(-1, keepdims=True) for z in logits)))[seen].max()
    same = (found[0].argmax(-1) == found[1].argmax(-1)).mean()
    print(f"largest difference of the logits: {apart:.2e}")
    print(f"pixels with the same label: {same:.6%} of {found[0][..., 0].size:,}")


if __name__ == "__main__":
    main()
