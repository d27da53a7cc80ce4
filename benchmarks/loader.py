"""The loader against a bare OpenCV loop on the same pictures and two threads.

The work: decode CamVid, scale 0.5…2, crop 360×360, flip, batches of 8. The bare loop checks
nothing, maps no labels, does not average what it shrinks, and fuses everything into one warp of
the picture and one of the label: the least that can be done.

    TERRAZZO_DATA=… python benchmarks/loader.py

Both are timed in turn in one process; printed are the medians and their ratio.
"""

import argparse
import itertools
import math
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from terrazzo.config import AugmentConfig, DataConfig, LoaderConfig
from terrazzo.datasets import open_split
from terrazzo.loader import TrainingOrder, training_batches
from terrazzo.sample import IGNORE

BATCH = 8
THREADS = 2
CROP = 360
SCALE = (0.5, 2.0)


def bare_batches(files, num_batches, seed):
    """Yield images and labels, read by threads a picture at a time."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(files), num_batches * BATCH)
    draws = rng.random((num_batches * BATCH, 4))
    with ThreadPoolExecutor(THREADS) as executor:
        samples = executor.map(lambda pick, draw: bare_sample(*files[pick], draw), picks, draws)
        for _ in range(num_batches):
            batch = list(itertools.islice(samples, BATCH))
            yield tuple(np.stack(arrays) for arrays in zip(*batch, strict=True))


def bare_sample(image_file, label_file, draw):
    image_HWC = cv2.imread(str(image_file), cv2.IMREAD_COLOR)
    label_HW = cv2.imread(str(label_file), cv2.IMREAD_UNCHANGED)
    rows, columns = label_HW.shape
    scale = math.exp(math.log(SCALE[0]) + draw[0] * math.log(SCALE[1] / SCALE[0]))
    sign = -1.0 if draw[1] < 0.5 else 1.0
    left = draw[2] * (columns * scale - CROP)
    top = draw[3] * (rows * scale - CROP)
    x = (left if sign > 0 else left + CROP) / scale
    matrix = np.array([[sign / scale, 0, x], [0, 1 / scale, top / scale]])
    size, inverse = (CROP, CROP), cv2.WARP_INVERSE_MAP
    return (
        cv2.warpAffine(image_HWC, matrix, size, flags=cv2.INTER_LINEAR | inverse),
        cv2.warpAffine(
            label_HW, matrix, size, flags=cv2.INTER_NEAREST | inverse, borderValue=IGNORE
        ),
    )


def our_batches(split, data, num_batches, seed):
    """Yield batches of the loader under test."""
    augment = AugmentConfig(crop=(CROP, CROP), scale=SCALE, flip_horizontal=0.5)
    return training_batches(
        split,
        data,
        augment,
        LoaderConfig(threads=THREADS),
        TrainingOrder(len(split), BATCH, seed),
        start_step=0,
        stop_step=num_batches,
    )


def pictures_per_second(batches, num_batches):
    """Time all batches but the first, which starts the threads."""
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return (num_batches - 1) * BATCH / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=92, help="batches a turn (two epochs)")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    root = Path(os.environ["TERRAZZO_DATA"]) / "camvid"
    data = DataConfig(format="camvid", root=str(root))
    split = open_split(data, "train")
    files = [split.source.files(index) for index in range(len(split))]
    cv2.setNumThreads(1)

    ours, bare = [], []
    for turn in range(arguments.turns):
        count = arguments.batches
        ours.append(pictures_per_second(our_batches(split, data, count, turn), count))
        bare.append(pictures_per_second(bare_batches(files, count, turn), count))
    print(f"CamVid, scale 0.5…2, crop {CROP}², flip, batch {BATCH}, {THREADS} threads")
    print(f"bare OpenCV loop {statistics.median(bare):8.1f} pictures/s")
    print(f"terrazzo         {statistics.median(ours):8.1f} pictures/s")
    ratios = sorted(our / their for our, their in zip(ours, bare, strict=True))
    middle = statistics.median(ratios)
    print(f"ratio            {middle:8.3f}  ({ratios[0]:.3f}…{ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
