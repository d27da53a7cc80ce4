"""Do the intervals hold, and how often does a table of equal runs or methods claim a difference?

    python benchmarks/interval_coverage.py [--trials 1000] [--images 6,10,20,60,233]
        [--part runs|methods]

Test splits are drawn whose true scores are known (`terrazzo.testing.simulated_counts`) and scored
as `terrazzo compare` does. Printed are the coverage of the 95 % intervals that are given (of scores
and of differences, over all classes and of single ones), and the share of studies in which at least
one equal pair is found to differ: in the ranking, in the table of classes, and in all scores at
once; "alone" is the ranking judged by the intervals of single pairs, as it must not be read.
Rows of methods whose seeds differ by "mixed" amounts are not equal in their scores: only their
coverage means anything.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from terrazzo.metrics.confidence_intervals import (
    Interval,
    RunIntervals,
    ScoreIntervals,
    compare_methods,
    compare_runs,
)
from terrazzo.testing.simulated_counts import PRESENCE, draw_splits

Floats = NDArray[np.float64]

_SEEDS = 300


def true_scores(seed_deviation: float, presence: Sequence[float] = PRESENCE) -> dict[str, Floats]:
    """Return the score that a method has on all images of the kind, in the mean over its seeds."""
    random = np.random.default_rng(0)
    num_seeds = _SEEDS if seed_deviation else 1
    found: dict[str, list[Floats]] = defaultdict(list)
    for _ in range(num_seeds):
        total_KK = np.zeros((len(presence), len(presence)), np.int64)
        seeds_1K = random.normal(0, 1, (1, len(presence))) * seed_deviation
        for _ in range(3 if seed_deviation else 200):
            total_KK += draw_splits(random, 2000, seeds_1K, presence=presence)[0].sum(axis=0)
        right, truth, prediction = np.diagonal(total_KK), total_KK.sum(axis=1), total_KK.sum(axis=0)
        for name, of_class in {
            "iou": right / (truth + prediction - right),
            "precision": right / prediction,
            "recall": right / truth,
            "f1": 2 * right / (truth + prediction),
        }.items():
            found[name].append(of_class)
        found["pixel_accuracy"].append(right.sum() / truth.sum())
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def _mean(found: ScoreIntervals, name: str, truth: dict[str, Floats]) -> float:
    """Return the true mean over the classes of this split."""
    defined = [not np.isnan(each.estimate) for each in found.per_class[name]]
    return float(truth[name][defined].mean())


class Tally:
    """Counts what was given and what was right."""

    def __init__(self) -> None:
        self.held: dict[str, list[bool]] = defaultdict(list)

    def own(self, name: str, interval: Interval, truth: float) -> None:
        """Note whether an interval holds the truth, where one is given."""
        if not np.isnan(interval.low):
            self.held[name].append(bool(interval.low <= truth <= interval.high))

    def study(self, found: RunIntervals, truths: Sequence[dict[str, Floats]]) -> None:
        """Note all of one study; `truths` of each run or method."""
        for run, truth in zip(found.runs, truths, strict=True):
            self.own(
                "pixel_accuracy", run.scalars["pixel_accuracy"], float(truth["pixel_accuracy"])
            )
            for name in ("iou", "precision", "recall", "f1"):
                self.own(f"mean_{name}", run.scalars[f"mean_{name}"], _mean(run, name, truth))
                for interval, value in zip(run.per_class[name], truth[name], strict=True):
                    self.own(f"class {name}", interval, float(value))
        pairs = [(i, j) for i, j in found.differences if i < j]
        for i, j in pairs:
            each, one, other = found.differences[i, j], truths[i], truths[j]
            difference = _mean(each, "iou", one) - _mean(each, "iou", other)
            self.own("difference mean_iou", each.scalars["mean_iou"], difference)
            of_classes = zip(each.per_class["iou"], one["iou"] - other["iou"], strict=True)
            for interval, value in of_classes:
                self.own("difference class iou", interval, float(value))
        means = [found.differences[pair].scalars["mean_iou"] for pair in pairs]
        classes = [each for pair in pairs for each in found.differences[pair].per_class["iou"]]
        everything = [
            each
            for pair in pairs
            for part in (found.all_at_once[pair],)
            for each in (*part.scalars.values(), *(c for cs in part.per_class.values() for c in cs))
        ]
        alone = [not each.low <= 0 <= each.high for each in means if not np.isnan(each.low)]
        self.held["alone"].append(any(alone))
        self.held["ranking"].append(any(each.excludes_zero for each in means))
        self.held["classes"].append(any(each.excludes_zero for each in classes))
        self.held["everything"].append(any(each.excludes_zero for each in everything))

    def row(self) -> str:
        """Return the shares."""
        names = (
            "mean_iou", "mean_f1", "mean_recall", "mean_precision", "pixel_accuracy",
            "class iou", "class precision", "class recall", "class f1",
            "difference mean_iou", "difference class iou",
            "alone", "ranking", "classes", "everything",
        )  # fmt: skip
        return " ".join(f"{np.mean(self.held[name]):6.3f}" if self.held[name] else "   –  "
                        for name in names)  # fmt: skip


HEAD = (
    "               mIoU   mF1    mRec   mPrec  acc    IoU    prec   recall F1   | "
    "dMean  dIoU | alone  rank.  class  all"
)


def runs_part(images: Sequence[int], sizes: Sequence[int], trials: int, draws: int) -> None:
    """Print the rows of trained networks, two and six of them, equal and all classes alike."""
    for presence in (PRESENCE, (1.0,) * len(PRESENCE)):
        truth = true_scores(0.0, presence)
        print(f"classes in {', '.join(f'{100 * p:g}' for p in presence)} % of the images\n{HEAD}")
        for num_runs in sizes:
            for num_images in images:
                tally, random = Tally(), np.random.default_rng(num_images)
                for trial in range(trials):
                    none = np.zeros((num_runs, len(presence)))
                    counts = draw_splits(random, num_images, none, presence=presence)
                    found = compare_runs(list(counts), draws=draws, seed=trial)
                    tally.study(found, [truth] * num_runs)
                print(f"R {num_runs} N {num_images:<6} {tally.row()}", flush=True)


def methods_part(images: Sequence[int], sizes: Sequence[int], trials: int, draws: int) -> None:
    """Print the rows of methods of three seeds, two and six of them, seeds as different as said."""
    kinds = {"0": (0.0,), "0.2": (0.2,), "0.6": (0.6,), "mixed": (0.1, 0.1, 0.1, 0.2, 0.6, 0.6)}
    for kind, deviations in kinds.items():
        truths = {each: true_scores(each) for each in set(deviations)}
        print(f"methods of 3 seeds, deviation of the logit over seeds {kind}\n{HEAD}")
        for num_methods in sizes:
            of_method = (deviations * num_methods)[-num_methods:]
            for num_images in images:
                tally, random = Tally(), np.random.default_rng(num_images)
                for trial in range(trials):
                    scale = np.repeat(of_method, 3)[:, None]
                    seeds_RK = random.normal(0, 1, (3 * num_methods, len(PRESENCE))) * scale
                    counts = draw_splits(random, num_images, seeds_RK)
                    methods = [list(counts[3 * m : 3 * m + 3]) for m in range(num_methods)]
                    found = compare_methods(methods, draws=draws, seed=trial)
                    tally.study(found, [truths[each] for each in of_method])
                print(f"M {num_methods} N {num_images:<6} {tally.row()}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--images", default="6,10,20,60,233")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--part", choices=("runs", "methods"))
    parser.add_argument("--sizes", default="2,6", help="numbers of runs, or of methods")
    given = parser.parse_args()
    images = [int(each) for each in given.images.split(",")]
    sizes = [int(each) for each in given.sizes.split(",")]
    if given.part != "methods":
        runs_part(images, sizes, given.trials, given.draws)
    if given.part != "runs":
        methods_part(images, sizes, given.trials, given.draws)


if __name__ == "__main__":
    main()
