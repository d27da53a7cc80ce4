"""The data check against plain decoding of the same files by two threads.

The work: all 701 pairs of CamVid, read from a warm disk cache. Plain decoding is `cv2.imread` of
image and mask, or Pillow for the mask, which palettes need; it looks at nothing. The data check
runs
with ``fresh=True``, so nothing is taken from an earlier check; the last line is a check of files
that have not changed.

    TERRAZZO_DATA=… python benchmarks/check.py

All are timed in turn in one process; printed are the medians and their ratios. The last column is
the same of processor time, which other work on the machine disturbs less.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from terrazzo import check
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets

THREADS = 2
FLOOR = 0.8


def pillow(path):
    with Image.open(path) as mask:
        return np.asarray(mask)


def opencv(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def decode(files, read_mask):
    """Decode every image and mask; keep nothing."""

    def one(pair):
        image, mask = pair
        return cv2.imread(str(image), cv2.IMREAD_COLOR).shape[:2] == read_mask(mask).shape

    with ThreadPoolExecutor(THREADS) as executor:
        assert all(executor.map(one, files))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    root = Path(os.environ["TERRAZZO_DATA"]) / "camvid"
    data = DataConfig(format="camvid", root=str(root))
    sources = [datasets.open_source(data, split) for split in datasets.SPLITS]
    files = [source.files(i) for source in sources for i in range(len(source.names))]

    def examine(fresh):
        report = check.check_data(data, progress=Silent(), threads=THREADS, fresh=fresh)
        assert sum(report.scanned_images.values()) == len(files)
        assert report.reused == (0 if fresh else len(files))

    work = {
        "plain, masks by OpenCV": lambda: decode(files, opencv),
        "plain, masks by Pillow": lambda: decode(files, pillow),
        "terrazzo check": lambda: examine(fresh=True),
        "terrazzo check, unchanged": lambda: examine(fresh=False),
    }
    seconds, busy = {name: [] for name in work}, {name: [] for name in work}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for _ in range(rounds + 1):  # the first warms up
            for name, run in work.items():
                start, start_busy = time.perf_counter(), time.process_time()
                run()
                seconds[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - start_busy)
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    median_busy = {name: statistics.median(times[1:]) for name, times in busy.items()}
    print(f"{len(files)} pairs, {THREADS} threads, median of {rounds}")
    for name, time_taken in median.items():
        ratios = "".join(
            f"{median[plain] / time_taken:>8.2f} × {plain}" for plain in list(work)[:2]
        )
        of_processor = median_busy["plain, masks by OpenCV"] / median_busy[name]
        print(
            f"{name:<28}{time_taken:>7.2f} s{len(files) / time_taken:>8.0f} pairs/s{ratios}"
            f"{of_processor:>8.2f} of processor time"
        )
    reached = median["plain, masks by OpenCV"] / median["terrazzo check"]
    print(f"floor {FLOOR}: {'reached' if reached >= FLOOR else 'missed'} ({reached:.2f})")


if __name__ == "__main__":
    main()
