"""How far a score would move with other images: bootstrap over images, groups or blocks.

The images of a test split are drawn again with replacement, thousands of times, and every score
is worked out from the pooled counts of each draw (Efron & Tibshirani 1993, percentile interval).
Pixels of one image are never drawn apart: they are far from independent. Where images are not
independent either (frames of one drive, tiles of one scene), name their groups, which are then
drawn whole.

Two runs are compared on the same draws, image by image, so that what makes an image hard for
both does not blur their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.metrics.bootstrap import LEVEL, intervals, resampled, units
from terrazzo.metrics.bootstrap import RESAMPLES as RESAMPLES
from terrazzo.metrics.bootstrap import Interval as Interval
from terrazzo.metrics.image_counts import ratio

SCALARS = (
    "mean_iou",
    "mean_precision",
    "mean_recall",
    "mean_f1",
    "pixel_accuracy",
    "micro_iou",
)
"""Scores of a run; defined as in `terrazzo.metrics.Scores`."""
PER_CLASS = ("iou", "precision", "recall", "f1")
"""Scores of a class."""

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class ScoreIntervals:
    """Intervals of all scores of a run, or of the differences between two.

    Attributes:
        scalars: by the names in `SCALARS`.
        per_class: by the names in `PER_CLASS`, K each.
        level: share of the draws within an interval.
        resamples: how many draws.
        units: how many images or groups were drawn from.
    """

    scalars: dict[str, Interval]
    per_class: dict[str, tuple[Interval, ...]]
    level: float
    resamples: int
    units: int


@dataclass(frozen=True, slots=True)
class RunIntervals:
    """Intervals of R runs on the same images.

    Attributes:
        runs: of each run.
        differences: by (i, j), run i minus run j.
    """

    runs: tuple[ScoreIntervals, ...]
    differences: dict[tuple[int, int], ScoreIntervals]


@dataclass(frozen=True, slots=True)
class Spread:
    """One score over several seeds.

    Attributes:
        mean: over the seeds.
        deviation: sample standard deviation; NaN for one seed.
        lowest: of the seeds.
        highest: of the seeds.
        seeds: how many.
    """

    mean: float
    deviation: float
    lowest: float
    highest: float
    seeds: int


def bootstrap(
    counts_NKK: NDArray[np.int64],
    *,
    groups: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> ScoreIntervals:
    """Return the interval of every score of one run.

    A class is scored in the draws that hold it, as `terrazzo.metrics.Scores` does.

    Args:
        counts_NKK: int64 confusion counts an image, rows truth, columns prediction.
        groups: N labels; images of one label are drawn together.
        resamples: draws.
        level: 0…1.
        seed: of the draws.

    Raises:
        DataError: SEG-M010 there are fewer than two images or groups; SEG-M011 there are not as
            many group labels as images.
    """
    drawn_UF = units(_sums(counts_NKK), groups)
    scores = resampled(drawn_UF, _score, resamples, seed)
    return _by_name(_score(drawn_UF.sum(axis=0)), scores, level, resamples, len(drawn_UF))


def paired_bootstrap(
    counts_NKK: NDArray[np.int64],
    other_NKK: NDArray[np.int64],
    *,
    groups: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> ScoreIntervals:
    """Return the intervals of the differences of all scores: first run minus the other.

    Arguments as of `bootstrap`; the two runs have scored the same images in the same order.

    Raises:
        DataError: as `bootstrap`; SEG-M012, the runs have not scored the same truth.
    """
    runs = bootstrap_runs(
        (counts_NKK, other_NKK), groups=groups, resamples=resamples, level=level, seed=seed
    )
    return runs.differences[0, 1]


def bootstrap_runs(
    runs: Sequence[NDArray[np.int64]],
    *,
    groups: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> RunIntervals:
    """Return the intervals of several runs and of all their differences, from the same draws.

    Args:
        runs: R times N×K×K counts as in `bootstrap`, of the same images in the same order.
        groups: as in `bootstrap`, and so are the others.
        resamples: draws.
        level: 0…1.
        seed: of the draws.

    Raises:
        DataError: as `paired_bootstrap`.
    """
    for other_NKK in runs[1:]:
        _refuse_other_truth(runs[0], other_NKK)
    drawn_UF = [units(_sums(counts_NKK), groups) for counts_NKK in runs]
    scores = [resampled(each, _score, resamples, seed) for each in drawn_UF]
    estimates = [_score(each.sum(axis=0)) for each in drawn_UF]
    drawn = len(drawn_UF[0])
    return RunIntervals(
        tuple(
            _by_name(estimate, score, level, resamples, drawn)
            for estimate, score in zip(estimates, scores, strict=True)
        ),
        {
            (i, j): _by_name(
                estimates[i] - estimates[j], scores[i] - scores[j], level, resamples, drawn
            )
            for i in range(len(runs))
            for j in range(len(runs))
            if i != j
        },
    )


def _refuse_other_truth(counts_NKK: NDArray[np.int64], other_NKK: NDArray[np.int64]) -> None:
    if counts_NKK.shape != other_NKK.shape or not np.array_equal(
        counts_NKK.sum(axis=2), other_NKK.sum(axis=2)
    ):
        raise DataError(
            "SEG-M012",
            "only runs on the same images can be compared in pairs",
            observed=f"counts of shape {counts_NKK.shape} and {other_NKK.shape}, or other truth",
            allowed="the same true pixels of each class in each image",
            next_step="score both runs on one split, at one label size",
        )


def spread(values: Sequence[float]) -> Spread:
    """Summarise one score over runs that differ in nothing but their seed."""
    scores = np.asarray(values, dtype=np.float64)
    deviation = float(scores.std(ddof=1)) if len(scores) > 1 else NAN
    return Spread(
        float(scores.mean()), deviation, float(scores.min()), float(scores.max()), len(scores)
    )


def _sums(counts_NKK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return N×3K: right, in truth, in prediction; all that the scores need.

    float64 is exact to 2^53 pixels and multiplies as fast matrices do.
    """
    sums_NF: NDArray[np.float64] = np.concatenate(
        [
            np.diagonal(counts_NKK, axis1=1, axis2=2),
            counts_NKK.sum(axis=2),
            counts_NKK.sum(axis=1),
        ],
        axis=1,
    ).astype(np.float64)
    return sums_NF


def _score(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn …×3K pixel sums into …×(scalars, then K of each score of a class)."""
    right, in_truth, in_prediction = np.split(pixels, 3, axis=-1)
    union = in_truth + in_prediction - right
    per_class = {
        "iou": ratio(right, union, NAN),
        "precision": np.where(union > 0, ratio(right, in_prediction, 0.0), NAN),
        "recall": ratio(right, in_truth, NAN),
        "f1": ratio(2 * right, in_truth + in_prediction, NAN),
    }
    scalars = [_mean_of_defined(per_class[name]) for name in PER_CLASS]
    total_right = right.sum(axis=-1)
    scalars.append(ratio(total_right, in_truth.sum(axis=-1), NAN))
    scalars.append(ratio(total_right, union.sum(axis=-1), NAN))
    return np.concatenate(
        [np.stack(scalars, axis=-1), *(per_class[name] for name in PER_CLASS)], axis=-1
    )


def _mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1), NAN)


def _by_name(
    estimates: NDArray[np.float64],
    scores: NDArray[np.float64],
    level: float,
    resamples: int,
    num_units: int,
) -> ScoreIntervals:
    found = intervals(estimates, scores, level)
    num_classes = (len(found) - len(SCALARS)) // len(PER_CLASS)
    by_class = found[len(SCALARS) :]
    return ScoreIntervals(
        scalars=dict(zip(SCALARS, found, strict=False)),
        per_class={
            name: by_class[number * num_classes : (number + 1) * num_classes]
            for number, name in enumerate(PER_CLASS)
        },
        level=level,
        resamples=resamples,
        units=num_units,
    )
