"""Intervals around scores and differences: against plain loops, and their coverage."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from terrazzo.base.errors import DataError
from terrazzo.metrics import ConfusionMatrix, confidence_intervals, intervals, student_t
from terrazzo.metrics import bootstrap as draws
from terrazzo.metrics.confidence_intervals import (
    MIN_IMAGES,
    Interval,
    compare_methods,
    compare_runs,
    paired_intervals,
    run_intervals,
)
from terrazzo.testing.simulated_counts import draw_splits


def random_counts(num_images=12, num_classes=4, seed=0):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 40, (num_images, num_classes, num_classes))
    counts += 200 * np.eye(num_classes, dtype=np.int64)
    return counts


def mean_iou(counts_NKK):
    return float(ConfusionMatrix.from_counts(counts_NKK.sum(axis=0)).scores().mean_iou)


def test_estimates_are_the_scores_of_the_run():
    counts = random_counts()
    counts[:, 3], counts[:, :, 3] = 0, 0  # an absent class
    counts[:, 2] = 0  # one that is only predicted
    scores = ConfusionMatrix.from_counts(counts.sum(axis=0)).scores()
    found = run_intervals(counts)
    for name in confidence_intervals.SCALARS:
        assert found.scalars[name].estimate == pytest.approx(getattr(scores, name), abs=1e-15)
    for name in confidence_intervals.PER_CLASS:
        estimates = [each.estimate for each in found.per_class[name]]
        assert estimates == pytest.approx(list(getattr(scores, name)), abs=1e-15, nan_ok=True)
    absent, predicted = found.per_class["iou"][3], found.per_class["iou"][2]
    assert math.isnan(absent.low)
    assert not absent.too_few
    assert (predicted.too_few, predicted.images) == (True, 0)
    assert found.scalars["mean_iou"].too_few  # it is a mean over that class as well
    assert not found.scalars["mean_recall"].too_few


def test_ends_are_those_of_the_jackknife_in_a_plain_loop():
    counts = random_counts()
    counts[:5, 1], counts[:5, :, 1] = 0, 0
    right, truth, prediction = (
        np.diagonal(counts, axis1=1, axis2=2)[:, 1], counts.sum(axis=2)[:, 1],
        counts.sum(axis=1)[:, 1],
    )  # fmt: skip

    def iou(chosen):
        union = (truth + prediction - right)[chosen].sum()
        return right[chosen].sum() / union

    every = np.arange(12)
    moved = [iou(every) - iou(np.delete(every, image)) for image in every]
    error = math.sqrt(sum(each**2 for each in moved))
    freedom = truth.sum() ** 2 / (truth**2).sum() - 1
    score = iou(every)
    logit, reach = math.log(score / (1 - score)), error / (score * (1 - score))
    reach *= float(student_t.quantile(0.05, freedom))
    found = run_intervals(counts).per_class["iou"][1]
    assert found.images == 7
    assert found.low == pytest.approx(1 / (1 + math.exp(-(logit - reach))), rel=1e-9)
    assert found.high == pytest.approx(1 / (1 + math.exp(-(logit + reach))), rel=1e-9)


def test_student_t_is_that_of_the_tables():
    for freedom, alpha, expected in (
        (1, 0.05, 12.7062), (2, 0.05, 4.30265), (4, 0.05, 2.77645), (10, 0.01, 3.16927),
        (30, 0.1, 1.69726), (1, 0.001, 636.619), (5, 0.002, 5.89343), (3, 0.5, 0.764892),
    ):  # fmt: skip
        assert student_t.quantile(alpha, freedom) == pytest.approx(expected, rel=5e-4)
    normal = NormalDist().inv_cdf(0.975)
    assert student_t.quantile(0.05, 1e7) == pytest.approx(normal, rel=1e-5)
    falling = student_t.quantile(0.05, np.linspace(1, 9, 400))  # there are parts of degrees
    assert (np.diff(falling) < 0).all()
    assert student_t.normal_two_sided(normal) == pytest.approx(0.05)


@pytest.mark.parametrize("held", range(MIN_IMAGES + 1))
def test_a_class_in_few_images_has_no_interval_and_no_verdict(held):
    counts = random_counts(20)
    counts[held:, 3], counts[held:, :, 3] = 0, 0
    worse = other_run(counts, 30)
    own = run_intervals(counts)
    difference = paired_intervals(counts, worse)
    enough = held >= MIN_IMAGES
    for found in (own, difference):
        rare, mean = found.per_class["iou"][3], found.scalars["mean_iou"]
        assert rare.images == held
        assert math.isnan(rare.low) == math.isnan(rare.high) == (not enough)
        assert mean.too_few == (0 < held < MIN_IMAGES)
        assert not math.isnan(found.per_class["iou"][0].low)
    assert difference.per_class["iou"][3].excludes_zero == enough
    assert difference.per_class["iou"][0].excludes_zero


def test_a_score_that_no_image_moves_is_known_as_well_as_so_many_images_tell():
    counts = np.zeros((8, 2, 2), np.int64)
    counts[:, 0, 0], counts[:, 1, 1] = 5, 7
    end = 0.025 ** (1 / 8)
    found = run_intervals(counts).per_class["iou"][1]
    assert (found.estimate, found.low, found.high) == (1.0, pytest.approx(end), 1.0)
    counts[:, 1] = counts[:, 1, ::-1]  # never found
    found = run_intervals(counts).per_class["iou"][1]
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, pytest.approx(1 - end))


def test_a_perfect_mean_is_known_no_better_than_its_rarest_class():
    counts = np.zeros((200, 2, 2), np.int64)
    counts[:, 0, 0], counts[:6, 1, 1] = 500, 7
    found = run_intervals(counts)
    rare, mean = found.per_class["iou"][1], found.scalars["mean_iou"]
    assert (rare.low, rare.images) == (pytest.approx(0.025 ** (1 / 6)), 6)
    assert (mean.estimate, mean.low, mean.high, mean.images) == (1.0, rare.low, 1.0, 6)


def test_an_interval_around_nothing_found_holds_what_is_found_now_and_then():
    """A class is found whole in one image of twelve: of 20 images, often in none."""
    random, trials, held = np.random.default_rng(0), 400, 0
    counts = np.zeros((20, 2, 2), np.int64)
    counts[:, 0, 0] = 1000
    for _ in range(trials):
        found = random.random(20) < 1 / 12
        counts[:, 1, 1], counts[:, 1, 0] = 50 * found, 50 * ~found
        recall = run_intervals(counts).per_class["recall"][1]
        held += recall.low <= 1 / 12 <= recall.high
    assert held >= 0.93 * trials


def test_ends_of_scores_are_scores():
    counts = random_counts(8)
    counts[3, 2] *= 300  # one image is nearly all there is of the class
    for each in run_intervals(counts).per_class["iou"]:
        assert 0 <= each.low <= each.estimate <= each.high <= 1


def test_weights_of_the_bootstrap_are_multinomial():
    weights = draws._weights(np.random.default_rng(0), 5000, 6)
    assert (weights.sum(axis=1) == 6).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.05)
    assert weights.var(axis=0) == pytest.approx(np.full(6, 5 / 6), abs=0.08)


def test_the_same_seed_gives_the_same_verdicts():
    runs = [random_counts(), other_run(random_counts()), other_run(random_counts(), 5)]
    whole = compare_runs(runs, draws=300, seed=3).differences
    assert compare_runs(runs, draws=300, seed=3).differences == whole
    assert compare_runs(runs, draws=300, seed=4).differences != whole


def test_groups_are_taken_whole():
    """Ten copies of each image are no more evidence than one, once they are grouped."""
    counts = random_counts()
    copies = np.repeat(counts, 10, axis=0)
    groups = [f"scene {k // 10}" for k in range(len(copies))]
    grouped = run_intervals(copies, groups=groups)
    single = run_intervals(counts)
    assert grouped.units == single.units == 12
    low, high = grouped.scalars["mean_iou"].low, grouped.scalars["mean_iou"].high
    assert (low, high) == pytest.approx(
        (single.scalars["mean_iou"].low, single.scalars["mean_iou"].high), abs=1e-12
    )
    loose = run_intervals(copies).scalars["mean_iou"]
    assert loose.high - loose.low < 0.5 * (high - low)


def test_a_run_does_not_differ_from_itself():
    counts = random_counts()
    found = paired_intervals(counts, counts).scalars["mean_iou"]
    assert found == Interval(0.0, 0.0, 0.0, 12, 0.0, 0.0)
    assert not found.excludes_zero


def other_run(counts, moved=3):
    """The same truth; `moved` right pixels of each class of each image become wrong."""
    other = counts.copy()
    for k in range(counts.shape[1]):
        some = np.minimum(moved, other[:, k, k])
        other[:, k, k] -= some
        other[:, k, (k + 1) % (counts.shape[1] - 1)] += some
    return other


def test_a_small_difference_on_all_images_is_found_by_pairs_alone():
    counts = random_counts()
    worse = other_run(counts)
    one, two = run_intervals(counts).scalars["mean_iou"], run_intervals(worse).scalars["mean_iou"]
    assert one.low < two.high  # their own intervals overlap
    difference = paired_intervals(counts, worse).scalars["mean_iou"]
    assert difference.low > 0
    assert difference.excludes_zero
    back = paired_intervals(worse, counts).scalars["mean_iou"]
    assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low))
    assert back.excludes_zero


def test_adjusted_ends_are_wider_with_more_pairs_and_widest_for_all_scores():
    random = np.random.default_rng(1)
    runs = list(draw_splits(random, 60, np.zeros((6, 4)), presence=(1, 1, 1, 1)))
    two, six = compare_runs(runs[:2]), compare_runs(runs)
    for found in (two, six):
        alone = found.differences[0, 1].scalars["mean_iou"]
        everything = found.all_at_once[0, 1].scalars["mean_iou"]
        assert everything.adjusted_low < alone.adjusted_low <= alone.low
        assert (everything.low, everything.high) == (alone.low, alone.high)
    of_two, of_six = (each.differences[0, 1].scalars["mean_iou"] for each in (two, six))
    assert of_six.adjusted_low < of_two.adjusted_low
    assert of_six.low == of_two.low
    assert of_two.adjusted_low == pytest.approx(of_two.low, rel=0.2)


def test_a_method_is_the_mean_of_its_runs_and_wider_than_each():
    random = np.random.default_rng(2)
    seeds_RK = np.repeat([[-0.6], [0.0], [0.6]], 4, axis=1)
    runs = list(draw_splits(random, 60, np.concatenate([seeds_RK, seeds_RK]), presence=(1,) * 4))
    methods = compare_methods([runs[:3], runs[3:]])
    found = methods.runs[0].scalars["mean_iou"]
    assert found.estimate == pytest.approx(np.mean([mean_iou(run) for run in runs[:3]]))
    one = run_intervals(runs[0]).scalars["mean_iou"]
    assert found.high - found.low > 1.5 * (one.high - one.low)
    # One seed against another of the same method: two networks differ, the methods do not.
    assert compare_runs([runs[0], runs[5]]).differences[0, 1].scalars["mean_iou"].excludes_zero
    assert not methods.differences[0, 1].scalars["mean_iou"].excludes_zero


def test_seeds_that_agree_find_a_difference_of_methods():
    random = np.random.default_rng(3)
    seeds_RK = np.repeat([0.0, 0.02, -0.02, 0.5, 0.52, 0.48], 4).reshape(6, 4)
    runs = list(draw_splits(random, 60, seeds_RK, presence=(1,) * 4))
    difference = compare_methods([runs[:3], runs[3:]]).differences[1, 0].scalars["mean_iou"]
    assert difference.low > 0
    assert difference.excludes_zero


def test_other_truth_is_refused():
    counts = random_counts()
    with pytest.raises(DataError, match="SEG-M012"):
        paired_intervals(counts, random_counts(seed=1))
    with pytest.raises(DataError, match="SEG-M012"):
        paired_intervals(counts, counts[:-1])


def test_one_image_or_group_has_no_interval():
    """A study on one image ends in a ranking: all its runs were trained by then."""
    one = run_intervals(random_counts(1))
    grouped = compare_runs([random_counts(), random_counts()], groups=["one"] * 12, draws=10)
    found = [one, *grouped.runs, grouped.differences[0, 1], grouped.all_at_once[1, 0]]
    assert [each.units for each in found] == [1] * 5
    for each in found:
        several = [*each.scalars.values(), *sum(each.per_class.values(), ())]
        assert all(interval.too_few for interval in several if not np.isnan(interval.estimate))
        assert not np.isnan(each.scalars["mean_iou"].estimate)


def test_no_image_or_missing_groups_are_refused():
    with pytest.raises(DataError, match="SEG-M010"):
        run_intervals(random_counts(1)[:0])
    with pytest.raises(DataError, match="SEG-M011"):
        run_intervals(random_counts(), groups=["one", "two"])


def test_draws_from_many_units_are_those_of_their_sums_of_products():
    random = np.random.default_rng(4)
    moved_UF = random.normal(size=(200, 5)) @ random.normal(size=(5, 5))
    short = intervals._short_factor(moved_UF)
    assert short.shape == (5, 5)
    assert short.T @ short == pytest.approx(moved_UF.T @ moved_UF)


def test_spread_over_seeds():
    found = confidence_intervals.spread([0.5, 0.6, 0.7])
    assert (found.mean, found.deviation) == pytest.approx((0.6, 0.1))
    assert (found.lowest, found.highest, found.seeds) == (0.5, 0.7, 3)
    assert math.isnan(confidence_intervals.spread([0.5]).deviation)


# Simulations: a part of what benchmarks/interval_coverage.py tries, see docs/metrics.md.


def true_iou(presence):
    counts = draw_splits(np.random.default_rng(5), 100_000, np.zeros((1, 5)), presence=presence)
    return np.asarray(ConfusionMatrix.from_counts(counts[0].sum(axis=0)).scores().iou)


def share(held):
    return sum(held) / len(held)


@pytest.mark.parametrize(("num_images", "trials"), [(20, 500), (60, 500)])
def test_every_interval_holds_the_truth_in_93_to_97_per_cent_of_splits(num_images, trials):
    """Classes in 100 to 12 per cent of the images; of the rare ones where an interval is given."""
    presence = (1.0, 0.9, 0.5, 0.25, 0.12)
    truth_K, random = true_iou(presence), np.random.default_rng(20)
    of_classes, of_means, of_differences = [], [], []
    for trial in range(trials):
        runs = draw_splits(random, num_images, np.zeros((2, 5)), presence=presence)
        found = compare_runs(list(runs), draws=50, seed=trial)
        for run in found.runs:
            of_classes += [
                each.low <= truth <= each.high
                for each, truth in zip(run.per_class["iou"], truth_K, strict=True)
                if not math.isnan(each.low)
            ]
            mean = run.scalars["mean_iou"]
            of_means += [mean.low <= truth_K.mean() <= mean.high] * (not math.isnan(mean.low))
        of_differences += [
            each.low <= 0 <= each.high
            for each in found.differences[0, 1].per_class["iou"]
            if not math.isnan(each.low)
        ]
    assert 0.93 <= share(of_classes) <= 0.97
    assert 0.93 <= share(of_differences) <= 0.97
    if num_images == 60:
        assert len(of_means) > trials  # else there is nothing to see
        assert 0.93 <= share(of_means) <= 0.97


def test_six_equal_methods_of_three_seeds_are_told_apart_in_6_per_cent_of_studies_at_most():
    random, trials = np.random.default_rng(30), 500
    false, alone, held = [], [], []
    for trial in range(trials):
        seeds_RK = random.normal(0, 0.2, (18, 3))
        counts = draw_splits(random, 20, seeds_RK, presence=(1.0, 1.0, 0.7))
        methods = [list(counts[3 * m : 3 * m + 3]) for m in range(6)]
        found = compare_methods(methods, draws=300, seed=trial)
        pairs = [found.differences[i, j] for i in range(6) for j in range(i)]
        means = [pair.scalars["mean_iou"] for pair in pairs]
        classes = [each for pair in pairs for each in pair.per_class["iou"]]
        false.append(any(each.excludes_zero for each in (*means, *classes)))
        alone.append(any(not each.low <= 0 <= each.high for each in means))
        held += [each.low <= 0 <= each.high for each in means]
    assert share(false) <= 0.06
    assert share(alone) > 0.15  # as a table without adjustment would claim
    assert 0.93 <= share(held) <= 0.98
