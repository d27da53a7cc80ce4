"""Counts beside the confusion matrix: the same for any batch, order and number of processes."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from terrazzo.base.processes import SingleProcess
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import DataConfig, EvaluationConfig, LoaderConfig
from terrazzo.data.augment import resize_image
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import IGNORE, Bands
from terrazzo.evaluation import extra_scores, result
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.evaluation.extra_counts import Counter, ExtraCounts
from terrazzo.metrics import boundary, roc
from terrazzo.metrics.calibration import Calibration
from terrazzo.testing.memory import MemorySplit
from terrazzo.testing.thread_world import in_world_of

LABELS = LabelMap(
    "three", tuple(LabelClass(name, "#00000" + name, (k,)) for k, name in enumerate("abc"))
)
ALL = EvaluationConfig(calibration=True, boundary=True, boundary_width=0.05)


class ColourTrainer:
    """Takes the bands of a pixel for the odds of its classes."""

    world = SingleProcess()
    bands = Bands(("a", "b", "c"), "uint8", (90.0,) * 3, (50.0,) * 3)

    def predict(self, images_BHWC):
        weights = images_BHWC.astype(np.float64) + 1
        return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)

    def predict_labels(self, images_BHWC):
        return images_BHWC.argmax(axis=-1).astype(np.uint8)


def split(num_samples=7, size=(18, 15)):
    draw = np.random.default_rng(1)
    blocks = draw.integers(0, 3, (num_samples, 6, 5))
    labels = np.kron(blocks, np.ones((1, 3, 3), int)).astype(np.uint8)
    images = np.eye(3)[labels] * 90 + draw.integers(0, 120, (num_samples, *size, 3))
    labels[draw.random(labels.shape) < 0.07] = IGNORE
    labels[num_samples // 2] = IGNORE
    return MemorySplit("test", tuple(images.astype(np.uint8)), tuple(labels), LABELS)


def evaluate(samples, *, batch_size=3, image_size=None, wanted=ALL, world=None):
    trainer = ColourTrainer()
    trainer.world = world or SingleProcess()
    return evaluation_loop.evaluate(
        trainer,
        samples,
        DataConfig(format="memory", root="", image_size=image_size),
        LoaderConfig(threads=0),
        batch_size=batch_size,
        step=1,
        progress=Silent(),
        counter=None if wanted is None else Counter(samples, wanted),
    )


def assert_same(first, second):
    assert first.arrays().keys() == second.arrays().keys()
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name], strict=True)


@pytest.mark.parametrize("image_size", [None, (9, 8)])
def test_batch_size_and_number_of_processes_change_no_bit(image_size):
    samples = split()
    whole = evaluate(samples, image_size=image_size).extra
    assert len(whole.arrays()) == 8
    for batch_size in (1, 7):
        again = evaluate(samples, image_size=image_size, batch_size=batch_size)
        assert_same(again.extra, whole)
    for shared in in_world_of(
        2, lambda world: evaluate(samples, image_size=image_size, world=world)
    ):
        assert_same(shared.extra, whole)


@pytest.mark.parametrize("image_size", [None, (9, 8)])
def test_scores_are_the_same_with_and_without(image_size):
    plain = evaluate(split(), image_size=image_size, wanted=None)
    np.testing.assert_array_equal(
        plain.counts_NKK, evaluate(split(), image_size=image_size).counts_NKK
    )
    assert plain.extra.arrays() == {}


def test_every_counted_pixel_is_in_one_bin_of_every_row():
    found = evaluate(split())
    counted_N = found.counts_NKK.sum(axis=(1, 2))
    assert counted_N[3] == 0
    pixels_NRB = found.extra.calibration.pixels
    np.testing.assert_array_equal(pixels_NRB.sum(axis=2), np.repeat(counted_N[:, None], 4, axis=1))
    truth_NK = found.counts_NKK.sum(axis=2)
    np.testing.assert_array_equal(found.extra.calibration.right[:, 1:].sum(axis=2), truth_NK)
    right_N = np.trace(found.counts_NKK, axis1=1, axis2=2)
    np.testing.assert_array_equal(found.extra.calibration.right[:, 0].sum(axis=1), right_N)
    scores = found.extra.calibration.scores
    np.testing.assert_array_equal(scores.sum(axis=(1, 2)), [counted_N.sum()] * 3)
    np.testing.assert_array_equal(scores[:, 1].sum(axis=1), truth_NK.sum(axis=0))


def test_probabilities_are_resampled_to_the_label_and_images_add_up():
    samples = split()
    expected = Calibration(3)
    for image_HWC, label_HW in zip(samples.images, samples.labels, strict=True):
        small_HWC = resize_image(image_HWC, (9, 8))
        p = ColourTrainer().predict(small_HWC[None])[0]
        p = np.stack([cv2.resize(p[..., k], (15, 18)) for k in range(3)], axis=-1)
        expected.update(label_HW, p)
    found = extra_scores.total(evaluate(samples, image_size=(9, 8)).extra.calibration)
    np.testing.assert_array_equal(found.pixels, expected.counts.pixels)
    np.testing.assert_array_equal(found.right, expected.counts.right)
    np.testing.assert_allclose(found.squares, expected.counts.squares, rtol=1e-12)


def test_scores_of_each_class_by_definition():
    samples = split(3)
    found = evaluate(samples)
    told = extra_scores.summary(found.extra, found.counts_NKK, LABELS.names)["calibration"]
    p = np.stack([ColourTrainer().predict(image[None])[0] for image in samples.images])
    label = np.stack(samples.labels)
    scored = label != IGNORE
    p, label = p[scored].astype(float), label[scored]
    for k in range(3):
        of_it, other = p[label == k, k], p[label != k, k]
        bins = roc.score_bins(of_it.astype(np.float32)), roc.score_bins(other.astype(np.float32))
        won = bins[0][:, None] > bins[1][None]
        tied = bins[0][:, None] == bins[1][None]
        area = (won + tied / 2).mean()
        assert told["per_class"]["roc_area"][k] == pytest.approx(area, abs=1e-12)
        exact = ((of_it[:, None] > other) + (of_it[:, None] == other) / 2).mean()
        assert area == pytest.approx(exact, abs=2e-3)
        squares = (p[:, k] - (label == k)) ** 2
        assert told["per_class"]["brier"][k] == pytest.approx(squares.mean(), abs=1e-12)
        number = np.ceil(p[:, k] * 15).astype(int)
        gap = sum(
            abs(p[number == b, k].sum() - (label[number == b] == k).sum()) for b in range(1, 16)
        )
        error = told["per_class"]["class_calibration_error"][k]
        assert error == pytest.approx(gap / len(label), abs=1e-12)
    assert told["brier"] == pytest.approx(sum(told["per_class"]["brier"]), abs=1e-12)


def exact_area(of_it, other):
    """Area under the ROC curve from ranks; equal probabilities share theirs."""
    _, places, counts = np.unique(
        np.concatenate([of_it, other]), return_inverse=True, return_counts=True
    )
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places][: len(of_it)]
    won = ranks.sum() - len(of_it) * (len(of_it) + 1) / 2
    return won / (len(of_it) * len(other))


def probabilities_of(kind, shift):
    """Return float32 probabilities of 4,000 pixels, higher by `shift` deviations in a class."""
    logit = np.random.default_rng(1).normal(shift, 1, 4000)
    p = {
        "peaked": 1 / (1 + np.exp(-6 * logit)),
        "small": np.exp(3 * logit - 12) / (1 + np.exp(3 * logit - 12)),
        "close to 1": 1 - np.exp(-3 * logit - 7) / (1 + np.exp(-3 * logit - 7)),
        "flat": 1 / 150 * (1 + 0.005 * logit),
        "flat, small": 1e-6 * (1 + 0.002 * logit),
        "flat, one half": 0.5 + 1e-3 * logit,
        "constant": np.full(4000, 0.2),
    }[kind]
    return p.astype(np.float32)


@pytest.mark.parametrize("other_bins", [False, True], ids=["our bins", "bins of another version"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("peaked", False),
        ("small", False),
        ("close to 1", False),
        ("flat", True),
        ("flat, small", True),
        ("flat, one half", True),
        ("constant", True),
    ],
)
def test_areas_are_exact_or_say_how_far_they_are_off(kind, told, other_bins):
    of_it, other = probabilities_of(kind, 0.7), probabilities_of(kind, 0.0)[::-1][:3000]
    bins = [roc.score_bins(p) // (4 if other_bins else 1) for p in (other, of_it)]
    scores = np.stack([np.bincount(each, minlength=roc.SCORE_BINS) for each in bins])
    if other_bins:
        scores = scores[:, : roc.SCORE_BINS // 4 + 1]
    area, error = float(roc.areas(scores)), float(roc.area_errors(scores))
    assert abs(area - exact_area(of_it, other)) <= error + 1e-12
    if not other_bins:
        # Exact to 1e-3, or said.
        assert abs(area - exact_area(of_it, other)) < 1e-3 or told
        assert (error > 0.02) == told
    assert error <= 0.5


def test_the_largest_error_can_be_reached():
    scores = np.stack([np.bincount(roc.score_bins(np.float32([p])), minlength=roc.SCORE_BINS)
                       for p in (0.2, 0.2001)])  # fmt: skip
    assert (scores[0] == scores[1]).all()
    assert exact_area(np.float32([0.2001]), np.float32([0.2])) == 1
    assert float(roc.areas(scores)) + float(roc.area_errors(scores)) == 1


def test_the_largest_error_of_an_area_is_stored_and_read_from_older_runs():
    found = evaluate(split(3))
    told = extra_scores.summary(found.extra, found.counts_NKK, LABELS.names)["calibration"]
    counts = found.extra.calibration.scores
    expected = [float(error) for error in roc.area_errors(counts)]
    assert told["roc_area_error"] == expected
    assert all(0 < error < 0.02 for error in expected)
    coarse = np.add.reduceat(counts, np.arange(0, counts.shape[-1], 7), axis=-1)
    older = replace(found.extra, calibration=replace(found.extra.calibration, scores=coarse))
    again = extra_scores.summary(
        ExtraCounts.of_arrays(older.arrays()), found.counts_NKK, LABELS.names
    )["calibration"]
    for k in range(3):
        off = abs(again["per_class"]["roc_area"][k] - told["per_class"]["roc_area"][k])
        assert off <= again["roc_area_error"][k] + told["roc_area_error"][k]


def test_order_of_scores_is_kept_to_both_ends():
    p = np.sort(np.random.default_rng(0).random(2000).astype(np.float32))
    ends = np.float32([0, 1e-30, 2**-24, 2**-20, 0.25, 0.5, 0.75, 1 - 2**-20, 1 - 2**-24, 1])
    assert (np.diff(roc.score_bins(p)) >= 0).all()
    bins = roc.score_bins(ends)
    assert (bins[0], bins[1], bins[-1]) == (0, 0, roc.SCORE_BINS - 1)
    assert (np.diff(bins)[1:] > 0).all()
    assert math.isnan(roc.areas(np.zeros((2, roc.SCORE_BINS), np.int64)))


def test_borders_are_those_of_each_image():
    samples = split()
    found = evaluate(samples).extra
    width = boundary.band_width(18, 15, 0.05)
    for index in range(len(samples)):
        prediction = ColourTrainer().predict_labels(samples.images[index])
        one = boundary.boundary_pixels(samples.labels[index], prediction, 3, width=width)
        np.testing.assert_array_equal(found.boundary.true_positives[index], one.true_positives)
        one = boundary.trimap_pixels(samples.labels[index], prediction, 3, width=width)
        np.testing.assert_array_equal(found.trimap.in_prediction[index], one.in_prediction)
    assert found.boundary_width == 0.05


def test_files_hold_all_of_it(tmp_path):
    found = evaluate(split())
    result.write(found, LABELS, tmp_path)
    assert_same(result.read_extra(tmp_path, "test"), found.extra)
    result.write(evaluate(split(), wanted=None), LABELS, tmp_path)
    assert result.read_extra(tmp_path, "test").arrays() == ExtraCounts().arrays()


def test_intervals_are_of_the_images_and_differences_of_the_same_images():
    samples = split(12)
    good = evaluate(samples).extra
    good.calibration.right[:, 0, 9:] //= 3  # overconfident there, underconfident below
    poor = evaluate(samples, image_size=(5, 4)).extra
    runs = extra_scores.with_intervals([good, poor, ExtraCounts()], groups=None, draws=300)
    for run, extra in zip(runs[:2], (good, poor), strict=True):
        told = extra_scores.summary(extra, np.zeros((12, 3, 3), int), LABELS.names)
        assert run.boundary[0].estimate == pytest.approx(told["boundary"]["mean_boundary_iou"])
        estimates = [each.estimate for each in run.boundary[1:]]
        assert estimates == pytest.approx(told["boundary"]["per_class"]["boundary_iou"])
        error, brier = run.calibration
        assert error.estimate == pytest.approx(told["calibration"]["expected_calibration_error"])
        assert brier.low < told["calibration"]["brier"] < brier.high
    difference = runs[1].boundary_to_first[0]
    gap = runs[1].boundary[0].estimate - runs[0].boundary[0].estimate
    assert difference.estimate == pytest.approx(gap)
    assert difference.high - difference.low < 2 * (
        runs[1].boundary[0].high - runs[1].boundary[0].low
    )
    assert difference.excludes_zero
    assert (runs[0].boundary_to_first, runs[2].boundary, runs[2].calibration) == ((), (), ())
