"""Intervals: around the scores of a run, against NumPy, and their coverage in a simulation."""

import math

import numpy as np
import pytest

from terrazzo.base.errors import DataError
from terrazzo.metrics import ConfusionMatrix, confidence_intervals
from terrazzo.metrics import bootstrap as draws
from terrazzo.metrics.confidence_intervals import Interval, bootstrap, paired_bootstrap


def random_counts(num_images=12, num_classes=4, seed=0):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 40, (num_images, num_classes, num_classes))
    counts += 200 * np.eye(num_classes, dtype=np.int64)
    return counts


def test_estimates_are_the_scores_of_the_run():
    counts = random_counts()
    counts[:, 3], counts[:, :, 3] = 0, 0  # an absent class
    counts[:, 2] = 0  # one that is only predicted
    scores = ConfusionMatrix.from_counts(counts.sum(axis=0)).scores()
    found = bootstrap(counts, resamples=200)
    for name in confidence_intervals.SCALARS:
        assert found.scalars[name].estimate == pytest.approx(getattr(scores, name), abs=1e-15)
    for name in confidence_intervals.PER_CLASS:
        estimates = [each.estimate for each in found.per_class[name]]
        assert estimates == pytest.approx(list(getattr(scores, name)), abs=1e-15, nan_ok=True)
    absent = found.per_class["iou"][3]
    assert math.isnan(absent.low)
    assert math.isnan(absent.high)
    assert not absent.excludes_zero


def test_ends_are_the_quantiles_of_drawn_scores():
    """Against a plain loop with other random numbers, within what chance allows."""
    counts, random = random_counts(), np.random.default_rng(9)
    drawn = [
        ConfusionMatrix.from_counts(counts[random.integers(0, 12, 12)].sum(axis=0)).scores()
        for _ in range(4000)
    ]
    found = bootstrap(counts, resamples=20_000)
    for name in confidence_intervals.SCALARS:
        low, high = np.quantile([getattr(scores, name) for scores in drawn], (0.025, 0.975))
        width = high - low
        assert found.scalars[name].low == pytest.approx(low, abs=0.08 * width)
        assert found.scalars[name].high == pytest.approx(high, abs=0.08 * width)


def test_quantiles_are_those_of_numpy_over_what_is_defined():
    random = np.random.default_rng(2)
    scores = random.random((101, 5))
    scores[random.random(scores.shape) < 0.3] = np.nan
    scores[:, 4] = np.nan
    scores[1:, 3], scores[0, 3] = np.nan, 0.5
    found = draws._quantiles(scores, (0.025, 0.9))
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        expected = np.nanquantile(scores, (0.025, 0.9), axis=0)
    assert np.allclose(found, expected, rtol=0, atol=1e-15, equal_nan=True)


def test_weights_are_multinomial():
    weights = draws._weights(np.random.default_rng(0), 5000, 6)
    assert (weights.sum(axis=1) == 6).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.05)
    assert weights.var(axis=0) == pytest.approx(np.full(6, 5 / 6), abs=0.08)


def test_the_same_seed_gives_the_same_interval():
    counts = random_counts()
    whole = bootstrap(counts, resamples=300, seed=3)
    assert bootstrap(counts, resamples=300, seed=3) == whole
    assert bootstrap(counts, resamples=300, seed=4) != whole


def test_groups_are_drawn_whole():
    """Ten copies of each image are no more evidence than one, once they are grouped."""
    counts = random_counts()
    copies = np.repeat(counts, 10, axis=0)
    groups = [f"scene {k // 10}" for k in range(len(copies))]
    grouped = bootstrap(copies, groups=groups, resamples=500)
    single = bootstrap(counts, resamples=500)
    assert grouped.units == single.units == 12
    low, high = grouped.scalars["mean_iou"].low, grouped.scalars["mean_iou"].high
    assert (low, high) == pytest.approx(
        (single.scalars["mean_iou"].low, single.scalars["mean_iou"].high), abs=1e-12
    )
    loose = bootstrap(copies, resamples=500).scalars["mean_iou"]
    assert loose.high - loose.low < 0.5 * (high - low)


def test_a_run_does_not_differ_from_itself():
    counts = random_counts()
    found = paired_bootstrap(counts, counts, resamples=200)
    assert found.scalars["mean_iou"] == Interval(0.0, 0.0, 0.0)
    assert not found.scalars["mean_iou"].excludes_zero


def other_run(counts, moved=3):
    """The same truth; `moved` right pixels of each class of each image become wrong."""
    other = counts.copy()
    for k in range(counts.shape[1]):
        other[:, k, k] -= moved
        other[:, k, (k + 1) % counts.shape[1]] += moved
    return other


def test_a_small_difference_on_all_images_is_found_by_pairs_alone():
    counts = random_counts()
    worse = other_run(counts)
    one, two = bootstrap(counts).scalars["mean_iou"], bootstrap(worse).scalars["mean_iou"]
    assert one.low < two.high  # their own intervals overlap
    difference = paired_bootstrap(counts, worse).scalars["mean_iou"]
    assert difference.low > 0
    assert difference.excludes_zero
    back = paired_bootstrap(worse, counts).scalars["mean_iou"]
    assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low))


def test_other_truth_is_refused():
    counts = random_counts()
    with pytest.raises(DataError, match="SEG-M012"):
        paired_bootstrap(counts, random_counts(seed=1))
    with pytest.raises(DataError, match="SEG-M012"):
        paired_bootstrap(counts, counts[:-1])


def test_one_image_or_missing_groups_are_refused():
    with pytest.raises(DataError, match="SEG-M010"):
        bootstrap(random_counts(1))
    with pytest.raises(DataError, match="SEG-M010"):
        bootstrap(random_counts(), groups=["one"] * 12)
    with pytest.raises(DataError, match="SEG-M011"):
        bootstrap(random_counts(), groups=["one", "two"])


def test_spread_over_seeds():
    found = confidence_intervals.spread([0.5, 0.6, 0.7])
    assert (found.mean, found.deviation) == pytest.approx((0.6, 0.1))
    assert (found.lowest, found.highest, found.seeds) == (0.5, 0.7, 3)
    assert math.isnan(confidence_intervals.spread([0.5]).deviation)


PIXELS = 400


def simulated(random, num_images, skill=(0.9, 0.7, 0.5)):
    """Images whose class shares and difficulty vary; a second run errs 4 % more."""
    num_classes = len(skill)
    shares_NK = random.dirichlet(np.array([4.0, 2.0, 1.0]), num_images)
    ease_N1 = random.beta(8, 2, (num_images, 1))
    counts = np.zeros((2, num_images, num_classes, num_classes), np.int64)
    truth_NK = random.multinomial(PIXELS, shares_NK)
    for run, factor in enumerate((1.0, 0.96)):
        right_NK = random.binomial(truth_NK, np.asarray(skill) * ease_N1 * factor)
        for k in range(num_classes):
            counts[run, :, k, k] = right_NK[:, k]
            counts[run, :, k, (k + 1) % num_classes] = truth_NK[:, k] - right_NK[:, k]
    return counts


def mean_iou(counts_KK):
    return float(ConfusionMatrix.from_counts(counts_KK).scores().mean_iou)


def test_coverage_of_the_95_per_cent_intervals_is_92_to_98_per_cent():
    """Known truth: the score of 200,000 images of the same kind. 1000 trials of 60 images."""
    random = np.random.default_rng(20)
    everything = simulated(random, 200_000).sum(axis=1)
    truth = mean_iou(everything[0])
    difference = truth - mean_iou(everything[1])
    trials, covered, covered_difference = 1000, 0, 0
    for trial in range(trials):
        first, second = simulated(random, 60)
        one = bootstrap(first, resamples=600, seed=trial).scalars["mean_iou"]
        both = paired_bootstrap(first, second, resamples=600, seed=trial).scalars["mean_iou"]
        covered += one.low <= truth <= one.high
        covered_difference += both.low <= difference <= both.high
    assert 0.92 <= covered / trials <= 0.98
    assert 0.92 <= covered_difference / trials <= 0.98
