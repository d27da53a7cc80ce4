"""Intervals of all scores of two runs and of their differences: 20,000 images with 19 classes.

    python benchmarks/intervals.py [--images 20000] [--classes 19] [--runs 2] [--draws 10000]
                                   [--rounds 3]

Printed are the median and the best of the rounds, wall time, and the peak of the memory on top of
the counts themselves. The plain way (a Python loop that adds up the counts of drawn images) is
timed on a thousandth of the draws and multiplied.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from terrazzo.metrics import ConfusionMatrix
from terrazzo.metrics.confidence_intervals import compare_runs


def seconds(work: Callable[[], object], rounds: int) -> list[float]:
    """Time the work."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def peak_mebibytes() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    first = random.integers(0, 5000, (given.images, given.classes, given.classes))
    runs = [first]
    while len(runs) < given.runs:
        other = first.copy()
        for each in other:  # the same truth, another prediction
            random.shuffle(each, axis=1)
        runs.append(other)
    before = peak_mebibytes()

    def plain() -> None:
        for _ in range(given.draws // 1000):
            drawn = random.integers(0, given.images, given.images)
            for run in runs:
                ConfusionMatrix.from_counts(run[drawn].sum(axis=0)).scores()

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "compare_runs": (lambda: compare_runs(runs, draws=given.draws), 1),
        "plain loop": (plain, 1000),
    }
    for name, (work, factor) in ways.items():
        times = [factor * each for each in seconds(work, given.rounds)]
        held = peak_mebibytes() - before
        print(
            f"{name:<14}median {statistics.median(times):8.2f} s   best {min(times):8.2f} s   "
            f"{held:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
