"""How far the scores of runs and methods would move with other images: all scores, by name.

The units are images, or groups of them that depend on each other (frames of one drive, tiles of
one scene). Pixels of one image are never taken apart: they are far from independent. Two runs are
compared image by image, so that what makes an image hard for both does not blur their difference.
How intervals and verdicts are worked out stands in `terrazzo.metrics.intervals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.metrics import intervals
from terrazzo.metrics.bootstrap import units
from terrazzo.metrics.image_counts import ratio
from terrazzo.metrics.intervals import DRAWS as DRAWS
from terrazzo.metrics.intervals import LEVEL as LEVEL
from terrazzo.metrics.intervals import MIN_IMAGES as MIN_IMAGES
from terrazzo.metrics.intervals import MIN_SEEDS as MIN_SEEDS
from terrazzo.metrics.intervals import Interval as Interval
from terrazzo.metrics.intervals import Scored

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
    """Intervals of all scores of a run or method, or of the differences between two.

    Attributes:
        scalars: by the names in `SCALARS`.
        per_class: by the names in `PER_CLASS`, K each.
        level: of the intervals, 0…1.
        units: how many images or groups they are over.
    """

    scalars: dict[str, Interval]
    per_class: dict[str, tuple[Interval, ...]]
    level: float
    units: int


@dataclass(frozen=True, slots=True)
class RunIntervals:
    """Intervals of R runs, or of R methods, on the same images.

    Attributes:
        runs: of each run.
        differences: by (i, j), run i minus run j. The adjusted ends of a score over all classes
            hold for all pairs at once, those of a class for all classes and pairs.
        all_at_once: the same, with adjusted ends that hold for all scores, classes and pairs.
        draws: of the largest difference, for the adjusted ends.
    """

    runs: tuple[ScoreIntervals, ...]
    differences: dict[tuple[int, int], ScoreIntervals]
    all_at_once: dict[tuple[int, int], ScoreIntervals]
    draws: int


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


def run_intervals(
    counts_NKK: NDArray[np.int64],
    *,
    groups: Sequence[object] | None = None,
    level: float = LEVEL,
) -> ScoreIntervals:
    """Return the interval of every score of one run.

    The classes are those in truth or prediction of all images together.

    Args:
        counts_NKK: int64 confusion counts an image, rows truth, columns prediction.
        groups: N labels; images of one label are one unit.
        level: 0…1.

    Raises:
        DataError: SEG-M010 there is no image; SEG-M011 there are not as many group labels as
            images.
    """
    (found,) = intervals.own_intervals([_scored(counts_NKK, groups)], level=level)
    return _by_name(found, level, _num_units(counts_NKK, groups))


def paired_intervals(
    counts_NKK: NDArray[np.int64],
    other_NKK: NDArray[np.int64],
    *,
    groups: Sequence[object] | None = None,
    level: float = LEVEL,
) -> ScoreIntervals:
    """Return the intervals of the differences of all scores: first run minus the other.

    Arguments as of `run_intervals`; the two runs have scored the same images in the same order.

    Raises:
        DataError: as `run_intervals`; SEG-M012, the runs have not scored the same truth.
    """
    return compare_runs((counts_NKK, other_NKK), groups=groups, level=level).differences[0, 1]


def compare_runs(
    runs: Sequence[NDArray[np.int64]],
    *,
    groups: Sequence[object] | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> RunIntervals:
    """Return the intervals of several runs and of all their differences.

    They say which of these trained networks differ; what made them differ may be their seed alone.

    Args:
        runs: R times N×K×K counts as in `run_intervals`, of the same images in the same order.
        groups: as in `run_intervals`.
        draws: of the largest difference under equality.
        level: 0…1.
        seed: of the draws.

    Raises:
        DataError: as `paired_intervals`.
    """
    return compare_methods(
        [[run] for run in runs], groups=groups, draws=draws, level=level, seed=seed
    )


def compare_methods(
    methods: Sequence[Sequence[NDArray[np.int64]]],
    *,
    groups: Sequence[object] | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> RunIntervals:
    """Return the intervals of methods, each of several runs that differ in their seed alone.

    Scores are means over the runs. The intervals cover other images and other seeds.

    Args:
        methods: counts of the runs of each method, as in `compare_runs`.
        groups: as in `compare_runs`, and so are the others.
        draws: of the largest difference under equality.
        level: 0…1.
        seed: of the draws.

    Raises:
        DataError: as `paired_intervals`.
    """
    runs = [run for method in methods for run in method]
    for other_NKK in runs[1:]:
        _refuse_other_truth(runs[0], other_NKK)
    scored = [intervals.of_method([_scored(run, groups) for run in method]) for method in methods]
    num_classes = runs[0].shape[1]
    pairs = [(i, j) for i in range(len(scored)) for j in range(i + 1, len(scored))]
    found = intervals.differences(scored, pairs, _means(scored, num_classes))
    judged_at_F = intervals.family_levels(
        scored, found, _families(num_classes), level=level, draws=draws, seed=seed
    )
    num_units = _num_units(runs[0], groups)

    def named(judged_at_S: NDArray[np.float64]) -> dict[tuple[int, int], ScoreIntervals]:
        forth = {
            pair: _by_name(each.intervals(judged_at_S, level=level), level, num_units)
            for pair, each in found.items()
        }
        return forth | {(j, i): _turned(each) for (i, j), each in forth.items()}

    own = intervals.own_intervals(scored, level=level)
    return RunIntervals(
        tuple(_by_name(each, level, num_units) for each in own),
        named(judged_at_F[_family_of_score(num_classes)]),
        named(np.full(_num_scores(num_classes), judged_at_F[-1])),
        draws,
    )


def _num_units(counts_NKK: NDArray[np.int64], groups: Sequence[object] | None) -> int:
    return len(counts_NKK) if groups is None else len(set(groups))


def _num_scores(num_classes: int) -> int:
    return len(SCALARS) + len(PER_CLASS) * num_classes


def _class_columns(name: str, num_classes: int) -> NDArray[np.intp]:
    start = len(SCALARS) + PER_CLASS.index(name) * num_classes
    return np.arange(start, start + num_classes)


def _family_of_score(num_classes: int) -> NDArray[np.intp]:
    """Return the family of each score: one each over all classes, one each of single classes."""
    of_classes = len(SCALARS) + np.repeat(np.arange(len(PER_CLASS)), num_classes)
    return np.concatenate([np.arange(len(SCALARS)), of_classes]).astype(np.intp)


def _families(num_classes: int) -> NDArray[np.bool_]:
    """Return the families, and all scores as the last one."""
    family_S = _family_of_score(num_classes)
    each_FS = family_S == np.arange(family_S.max() + 1)[:, None]
    return np.concatenate([each_FS, np.ones((1, len(family_S)), bool)])


def _means(scored: Sequence[Scored], num_classes: int) -> list[tuple[int, NDArray[np.intp]]]:
    """Return which score is the mean of which."""
    found = []
    for name in PER_CLASS:
        columns = _class_columns(name, num_classes)
        defined = ~np.isnan([each.estimates_S[columns] for each in scored]).any(axis=0)
        found.append((SCALARS.index(f"mean_{name}"), columns[defined]))
    return found


def _scored(counts_NKK: NDArray[np.int64], groups: Sequence[object] | None) -> Scored:
    """Score all units, and all but each, with the classes of all of them."""
    units_UF = units(_sums(counts_NKK), groups, least=1)  # of few there is no interval
    right_UK, truth_UK, prediction_UK = np.split(units_UF, 3, axis=1)
    union_UK = truth_UK + prediction_UK - right_UK
    all_U1, union_U1 = truth_UK.sum(axis=1)[:, None], union_UK.sum(axis=1)[:, None]
    # Of the means below: the first four are replaced.
    wholes_US = np.concatenate(
        [*[all_U1] * 5, union_U1, union_UK, prediction_UK, truth_UK, truth_UK + prediction_UK],
        axis=1,
    )
    images_K = np.count_nonzero(truth_UK, axis=0)
    num_units = len(units_UF)
    images_S = np.concatenate([np.full(len(SCALARS), num_units), *[images_K] * len(PER_CLASS)])
    found = intervals.jackknife(units_UF, _score, wholes_US, images_S)
    # False positives in many images tell no more of a class that few of them hold.
    in_truth_US = np.concatenate([*[all_U1] * len(SCALARS), *[truth_UK] * len(PER_CLASS)], axis=1)
    found = found.no_freer_than(in_truth_US)
    for mean, columns in _means([found], len(images_K)):
        found = intervals.with_mean(found, mean, columns)
    return found


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


def _by_name(found: Sequence[Interval], level: float, num_units: int) -> ScoreIntervals:
    num_classes = (len(found) - len(SCALARS)) // len(PER_CLASS)
    by_class = tuple(found[len(SCALARS) :])
    return ScoreIntervals(
        scalars=dict(zip(SCALARS, found, strict=False)),
        per_class={
            name: by_class[number * num_classes : (number + 1) * num_classes]
            for number, name in enumerate(PER_CLASS)
        },
        level=level,
        units=num_units,
    )


def _turned(found: ScoreIntervals) -> ScoreIntervals:
    """Return the differences the other way round."""
    return replace(
        found,
        scalars={name: each.turned for name, each in found.scalars.items()},
        per_class={
            name: tuple(each.turned for each in classes)
            for name, classes in found.per_class.items()
        },
    )
