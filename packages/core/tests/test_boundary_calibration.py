"""Boundary and trimap IoU against distances written out; calibration against its definition."""

import math

import numpy as np
import pytest

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.metrics.boundary import band_width, boundary_pixels, trimap_pixels
from terrazzo.metrics.calibration import Calibration

IGNORE = 255


def blobs(seed, shape=(14, 17), num_classes=3):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, num_classes, (5, 6))
    label = np.kron(coarse, np.ones((3, 3), int))[: shape[0], : shape[1]].astype(np.uint8)
    prediction = np.roll(label, random.integers(-2, 3, 2), (0, 1))
    label[random.random(shape) < 0.08] = IGNORE
    return label, prediction


def near(mask, others, width, row, column, *, edge):
    """Whether a pixel of `others`, or the outside if `edge`, lies within `width` of this pixel."""
    rows, columns = mask.shape
    for r in range(row - width, row + width + 1):
        for c in range(column - width, column + width + 1):
            if not (0 <= r < rows and 0 <= c < columns):
                if edge:
                    return True
            elif others[r, c]:
                return True
    return False


def band_of(ids, ignored, k, width):
    mask, others = (ids == k) & ~ignored, (ids != k) & ~ignored
    return {(r, c) for r, c in np.argwhere(mask) if near(mask, others, width, r, c, edge=True)}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("width", [1, 2])
def test_boundary_pixels_by_distance(seed, width):
    label, prediction = blobs(seed)
    ignored = label == IGNORE
    found = boundary_pixels(label, prediction, 3, width=width)
    for k in range(3):
        truth, predicted = band_of(label, ignored, k, width), band_of(prediction, ignored, k, width)
        expected = (len(truth & predicted), len(truth), len(predicted))
        assert (found.true_positives[k], found.in_truth[k], found.in_prediction[k]) == expected


@pytest.mark.parametrize("seed", range(8))
def test_trimap_pixels_by_distance(seed):
    label, prediction = blobs(seed)
    ignored = label == IGNORE
    found = trimap_pixels(label, prediction, 3, width=2)
    for k in range(3):
        mask = label == k
        outer = {
            (r, c)
            for r, c in np.argwhere(~mask & ~ignored)
            if near(mask, mask, 2, r, c, edge=False)
        }
        band = band_of(label, ignored, k, 2) | outer
        truth = {p for p in band if label[p] == k}
        predicted = {p for p in band if prediction[p] == k}
        expected = (len(truth & predicted), len(truth), len(predicted))
        assert (found.true_positives[k], found.in_truth[k], found.in_prediction[k]) == expected


def test_what_is_predicted_on_ignored_pixels_changes_nothing():
    label, prediction = blobs(3)
    other = prediction.copy()
    other[label == IGNORE] = 2 - other[label == IGNORE]
    assert (other != prediction).any()
    for count in (boundary_pixels, trimap_pixels):
        one, two = count(label, prediction, 3, width=2), count(label, other, 3, width=2)
        assert np.array_equal(one.in_prediction, two.in_prediction)
        assert np.array_equal(one.true_positives, two.true_positives)


def test_a_perfect_prediction_scores_1_and_an_outline_error_shows_at_the_border():
    label = np.zeros((100, 100), np.uint8)
    label[20:80, 20:80] = 1
    same = boundary_pixels(label, label, 2, width=2)
    assert np.array_equal(same.true_positives, same.union)
    grown = np.zeros_like(label)
    grown[18:82, 18:82] = 1
    bands = boundary_pixels(label, grown, 2, width=2)
    assert 3600 / 64**2 > 0.87  # IoU of the square
    assert bands.true_positives[1] / bands.union[1] == 0  # its bands do not meet


def test_a_class_missed_altogether_and_one_imagined_are_counted():
    label, prediction = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    label[:4, :4], prediction[5:, 5:] = 1, 2
    for count in (boundary_pixels, trimap_pixels):
        found = count(label, prediction, 4, width=1)
        assert (found.in_truth[1], found.true_positives[1], found.in_truth[2]) == (12, 0, 0)
    assert tuple(boundary_pixels(label, prediction, 4, width=1).in_prediction[1:]) == (0, 12, 0)


def test_rim_width_is_a_part_of_the_diagonal():
    assert band_width(1024, 2048) == 46
    assert band_width(8, 8) == 1
    with pytest.raises(ConfigError, match="SEG-M013"):
        band_width(10, 10, 2.0)
    with pytest.raises(DataError, match="SEG-M001"):
        boundary_pixels(np.zeros((2, 2), int), np.zeros((2, 3), int), 2, width=1)


def probabilities(seed, shape, num_classes):
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), shape)


def test_calibration_by_definition():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (20, 30)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.2] = IGNORE
    p = probabilities(1, labels.shape, 3)
    found = Calibration(3, num_bins=10)
    found.update(labels[:7], p[:7])
    found.update(labels[7:], p[7:])
    bins, brier = {}, []
    for truth, q in zip(labels.reshape(-1), p.reshape(-1, 3), strict=True):
        if truth != IGNORE:
            number = next(b for b in range(10) if q.max() <= (b + 1) / 10)
            bins.setdefault(number, []).append((q.max(), q.argmax() == truth))
            brier.append(sum((q[k] - (k == truth)) ** 2 for k in range(3)))
    gaps = [abs(sum(right for _, right in b) - sum(c for c, _ in b)) for b in bins.values()]
    assert found.expected_calibration_error == pytest.approx(sum(gaps) / len(brier), abs=1e-12)
    assert found.brier == pytest.approx(sum(brier) / len(brier), abs=1e-12)
    assert found.pixels.sum() == (labels != IGNORE).sum()
    assert np.isnan(found.accuracy).sum() == 10 - len(bins)


def test_probabilities_that_are_true_are_calibrated():
    random = np.random.default_rng(4)
    p = probabilities(5, (40_000,), 3)
    drawn = (p.cumsum(axis=1) < random.random((40_000, 1))).sum(axis=1)
    honest, vain = Calibration(3), Calibration(3)
    honest.update(drawn, p)
    vain.update(drawn, p**4 / (p**4).sum(axis=1, keepdims=True))
    assert honest.expected_calibration_error < 0.015
    assert vain.expected_calibration_error > 0.1
    assert vain.brier > honest.brier


def test_nothing_is_no_calibration_and_mistakes_are_named():
    empty = Calibration(2)
    empty.update(np.full((2, 2), IGNORE), np.full((2, 2, 2), 0.5))
    assert math.isnan(empty.brier)
    assert math.isnan(empty.expected_calibration_error)
    with pytest.raises(DataError, match="SEG-M014"):
        empty.update(np.zeros((2, 2), int), np.full((2, 2, 3), 1 / 3))
    with pytest.raises(DataError, match="SEG-M015"):
        empty.update(np.full((1,), 2), np.full((1, 2), 0.5))
    with pytest.raises(DataError, match="SEG-M016"):
        empty.update(np.zeros(1, int), np.full((1, 2), 3.0))
