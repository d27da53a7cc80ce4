"""Accuracy and areas from reference points: published examples, and how often intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from terrazzo.base.errors import DataError
from terrazzo.metrics import estimate, estimate_by_map_classes

# Olofsson et al. 2014, section 5: deforestation, forest gain, stable forest, stable non-forest.
PIXELS_K = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HECTARES_K = PIXELS_K * 0.09
COUNTS_KK = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])


def test_the_published_example_to_the_last_digit():
    found = estimate_by_map_classes(COUNTS_KK, HECTARES_K)
    deforestation = found.area_shares[0].times(HECTARES_K.sum())
    assert f"{deforestation.value:.0f} ± {deforestation.half_width:.0f}" == "21158 ± 6158"
    assert f"{found.overall.value:.3f} ± {found.overall.half_width:.3f}" == "0.947 ± 0.018"
    assert f"{found.users[0].value:.2f} ± {found.users[0].half_width:.2f}" == "0.88 ± 0.07"
    assert f"{found.users[1].value:.2f} ± {found.users[1].half_width:.2f}" == "0.73 ± 0.10"
    assert f"{found.users[2].value:.2f} ± {found.users[2].half_width:.2f}" == "0.93 ± 0.04"
    assert f"{found.users[3].value:.2f} ± {found.users[3].half_width:.2f}" == "0.96 ± 0.02"
    assert f"{found.producers[0].value:.2f} ± {found.producers[0].half_width:.2f}" == "0.75 ± 0.21"
    np.testing.assert_array_equal(found.counts_KK, COUNTS_KK)
    np.testing.assert_allclose(found.mapped_shares_K, PIXELS_K / PIXELS_K.sum())
    assert found.proportions_KK.sum() == pytest.approx(1)


def test_standard_errors_are_those_of_the_formulas_for_strata_of_map_classes():
    """Equations 5 to 7 and 10 of Olofsson et al. 2014, written out."""
    found = estimate_by_map_classes(COUNTS_KK, HECTARES_K)
    share_K, points_K = PIXELS_K / PIXELS_K.sum(), COUNTS_KK.sum(axis=1)
    rows_KK = COUNTS_KK / points_K[:, None]
    users_K = np.diagonal(rows_KK)
    variance_K = users_K * (1 - users_K) / (points_K - 1)
    assert found.overall.standard_error == pytest.approx(math.sqrt(share_K**2 @ variance_K))
    within_KK = rows_KK * (1 - rows_KK) / (points_K - 1)[:, None]
    for k in range(4):
        assert found.users[k].standard_error == pytest.approx(math.sqrt(variance_K[k]))
        error = math.sqrt(share_K**2 @ within_KK[:, k])
        assert found.area_shares[k].standard_error == pytest.approx(error)
        total = PIXELS_K @ rows_KK[:, k]
        right = PIXELS_K[k] * users_K[k] / total
        others = np.delete(PIXELS_K**2 * within_KK[:, k], k).sum()
        own = PIXELS_K[k] ** 2 * (1 - right) ** 2 * variance_K[k]
        error = math.sqrt(own + right**2 * others) / total
        assert found.producers[k].standard_error == pytest.approx(error)


def test_the_published_example_of_strata_that_are_not_the_map_classes():
    """Stehman 2014, table 2 and pages 4932 to 4936."""
    mapped = ["A" * 7 + "B" * 3, "A" + "B" * 9, "BB" + "C" * 6 + "BB", "D" * 10]
    truth = ["AAAAACBABC", "ABBBBBAABB", "CCCCCDDBBA", "DDDDDDDCCB"]
    counts_SKK = np.zeros((4, 4, 4), np.int64)
    for stratum in range(4):
        for i, j in zip(mapped[stratum], truth[stratum], strict=True):
            counts_SKK[stratum, "ABCD".index(i), "ABCD".index(j)] += 1
    pixels_S = np.array([40_000, 30_000, 20_000, 10_000])
    found = estimate(counts_SKK, pixels_S, pixels_S=pixels_S)

    def text(one):
        return f"{one.value:.3f} {one.standard_error:.3f}"

    assert text(found.area_shares[0]) == "0.350 0.082"
    assert text(found.area_shares[2]) == "0.200 0.064"
    assert text(found.overall) == "0.630 0.085"
    assert text(found.users[1]) == "0.574 0.125"
    assert text(found.producers[1]) == "0.794 0.117"
    assert found.proportions_KK[1, 2] == pytest.approx(0.08)


def test_a_simple_sample_is_one_stratum():
    found = estimate(COUNTS_KK[None], np.array([7.0]))
    share = COUNTS_KK[:, 2].sum() / COUNTS_KK.sum()
    assert found.area_shares[2].value == pytest.approx(share)
    error = math.sqrt(share * (1 - share) / (COUNTS_KK.sum() - 1))
    assert found.area_shares[2].standard_error == pytest.approx(error)
    assert found.users[0].value == pytest.approx(66 / 75)


def population(seed):
    """Return a map and the truth of a hundred thousand pixels: one class is rare and overmapped."""
    rng = np.random.default_rng(seed)
    truth_N = rng.choice(3, 100_000, p=[0.05, 0.35, 0.6])
    confusion_KK = np.array([[0.8, 0.15, 0.05], [0.06, 0.86, 0.08], [0.03, 0.07, 0.9]])
    mapped_N = (rng.random((100_000, 1)) > confusion_KK[truth_N].cumsum(axis=1)).sum(axis=1)
    return mapped_N, truth_N


def counts_of(mapped_N, truth_N):
    return np.bincount(3 * mapped_N + truth_N, minlength=9).reshape(3, 3)


@pytest.mark.parametrize("design", ["map classes", "other strata", "simple"])
def test_intervals_hold_in_19_samples_of_20(design):
    mapped_N, truth_N = population(4)
    strata_N = {
        "map classes": mapped_N,
        "other strata": (mapped_N + (np.arange(100_000) % 10 < 2)) % 3,  # an older map, say
        "simple": np.zeros(100_000, np.int64),
    }[design]
    members = [np.flatnonzero(strata_N == s) for s in range(strata_N.max() + 1)]
    pixels_S = np.array([len(each) for each in members])
    whole_KK = counts_of(mapped_N, truth_N)
    true_share_K, true_overall = whole_KK.sum(axis=0) / 1e5, np.trace(whole_KK) / 1e5
    true_users_K = np.diagonal(whole_KK) / whole_KK.sum(axis=1)
    true_producers_K = np.diagonal(whole_KK) / whole_KK.sum(axis=0)
    rng, held, samples = np.random.default_rng(1), [], 1500
    for _ in range(samples):
        drawn = [rng.choice(each, 1800 // len(members)) for each in members]
        counts_SKK = np.stack([counts_of(mapped_N[each], truth_N[each]) for each in drawn])
        found = estimate(counts_SKK, pixels_S.astype(float))
        pairs = [(found.overall, true_overall)]
        pairs += zip(found.area_shares, true_share_K, strict=True)
        pairs += zip(found.users, true_users_K, strict=True)
        pairs += zip(found.producers, true_producers_K, strict=True)
        held.append([one.low <= true <= one.high for one, true in pairs])
    coverage = np.mean(held, axis=0)
    assert coverage.min() >= 0.93, coverage
    assert coverage.max() <= 0.97, coverage


def test_classes_of_which_nothing_is_known_have_no_accuracy():
    counts_KK = np.zeros((3, 3), np.int64)
    counts_KK[:2, :2] = [[8, 2], [1, 9]]
    found = estimate_by_map_classes(counts_KK, np.array([10.0, 20.0, 0.0]))
    assert math.isnan(found.users[2].value)
    assert math.isnan(found.producers[2].standard_error)
    assert found.area_shares[2].value == 0


def test_a_stratum_without_points_is_refused():
    with pytest.raises(DataError, match="SEG-D080") as caught:
        estimate_by_map_classes(np.diag([5, 1]), np.array([10.0, 20.0]))
    assert "stratum 1: 1" in str(caught.value)


def test_a_stratum_that_was_seen_whole_adds_no_error():
    """One pixel is enough of a class of one pixel."""
    counts_KK = np.array([[1, 0], [20, 80]])
    found = estimate(
        np.array([[[1, 0], [0, 0]], [[0, 0], [20, 80]]]),
        np.array([1.0, 9.0]),
        whole_S=np.array([True, False]),
    )
    assert found.users[0].value == 1
    assert found.overall.value == pytest.approx(0.1 + 0.9 * 0.8)
    assert found.overall.standard_error == pytest.approx(0.9 * math.sqrt(0.16 / 99))
    np.testing.assert_array_equal(found.counts_KK, counts_KK)
