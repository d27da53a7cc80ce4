"""Bootstrap intervals of all scores: 10,000 resamples of 500 images with 19 classes.

    python benchmarks/intervals.py [--images 500] [--classes 19] [--resamples 10000] [--rounds 5]

Printed are the median and the best of the rounds, wall time, and the same for a paired comparison.
The resampling of the plain way (a Python loop over the resamples that adds up counts and scores
them) is timed on a hundredth of the resamples and multiplied.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from terrazzo.metrics import ConfusionMatrix
from terrazzo.metrics.confidence_intervals import bootstrap, paired_bootstrap


def seconds(work: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    shape = (given.images, given.classes, given.classes)
    counts = random.integers(0, 5000, shape)
    other = np.stack([random.permuted(each, axis=1) for each in counts])

    def plain() -> None:
        for _ in range(given.resamples // 100):
            drawn = random.integers(0, given.images, given.images)
            ConfusionMatrix.from_counts(counts[drawn].sum(axis=0)).scores()

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "bootstrap": (lambda: bootstrap(counts, resamples=given.resamples), 1),
        "paired": (lambda: paired_bootstrap(counts, other, resamples=given.resamples), 1),
        "plain loop": (plain, 100),
    }
    for name, (work, factor) in ways.items():
        times = [factor * each for each in seconds(work, given.rounds)]
        print(f"{name:<12}median {statistics.median(times):7.2f} s   best {min(times):7.2f} s")


if __name__ == "__main__":
    main()
