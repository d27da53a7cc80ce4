"""Whether probabilities mean what they say: reliability, calibration errors and Brier scores.

Everything is a sum over the pixels that are not ignored, so images add up in any order. Bins are
of equal width, (a, b], so that a probability of 1 is in the last one.

Sources: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017 (the
winning class); Nixon and others, "Measuring Calibration in Deep Learning", CVPR workshops 2019
(each class by itself); Brier, Monthly Weather Review 78, 1950 (all classes, 0…2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.metrics.image_counts import ratio
from terrazzo.metrics.roc import SCORE_BINS, score_bins

NUM_BINS = 15
"""As in Guo et al."""

NAN = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationCounts:
    """Sums over pixels; any leading axes (images), then 1+K rows of B bins.

    Row 0 is of the winning class: a pixel is in the bin of the probability of its predicted class,
    and right where that is the true one. Row 1+k is of class k: every pixel is in the bin of its
    probability of class k, and right where k is the true one.

    Attributes:
        pixels: …×(1+K)×B int64.
        right: …×(1+K)×B int64.
        confidence: …×(1+K)×B float64, sums of the probabilities.
        squares: …×K float64, sums of (p − y)², where y is 1 for the true class and 0 elsewhere.
        scores: …×K×2×S int64, pixels by their probability of class k: not of the class, of it;
            see `terrazzo.metrics.roc`.
    """

    pixels: NDArray[np.int64]
    right: NDArray[np.int64]
    confidence: NDArray[np.float64]
    squares: NDArray[np.float64]
    scores: NDArray[np.int64]

    def __add__(self, other: CalibrationCounts) -> CalibrationCounts:
        """Add pixels of other images."""
        mine, theirs = (
            [getattr(each, field.name) for field in fields(each)] for each in (self, other)
        )
        return CalibrationCounts(*(a + b for a, b in zip(mine, theirs, strict=True)))


def nothing(num_classes: int, num_bins: int = NUM_BINS) -> CalibrationCounts:
    """Return the counts of no pixel."""
    shape = (1 + num_classes, num_bins)
    return CalibrationCounts(
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape),
        np.zeros(num_classes),
        np.zeros((num_classes, 2, SCORE_BINS), np.int64),
    )


def count(
    label_HW: NDArray[np.integer],
    prediction_HW: NDArray[np.integer],
    planes: Iterable[NDArray[np.floating]],
    num_classes: int,
    *,
    ignore_index: int = 255,
    num_bins: int = NUM_BINS,
) -> CalibrationCounts:
    """Count one image, class by class, so that no array of all classes is needed.

    Args:
        label_HW: train ids or `ignore_index`; any shape.
        prediction_HW: train ids, of the same shape: the winning class.
        planes: K arrays of that shape: the probability of each class, 0…1.
        num_classes: K.
        ignore_index: of pixels that are not counted.
        num_bins: B.

    Raises:
        DataError: SEG-M014 the shapes do not fit; SEG-M015 a label is outside the classes;
            SEG-M016 these are not probabilities.
    """
    scored = label_HW != ignore_index
    truth_P, predicted_P = label_HW[scored], prediction_HW[scored]
    _check_labels(truth_P, num_classes, ignore_index)
    found = nothing(num_classes, num_bins)
    winner_P, sum_P = np.zeros(len(truth_P)), np.zeros(len(truth_P))
    for k, plane in zip(range(num_classes), planes, strict=True):
        if plane.shape != label_HW.shape:
            raise _unfit(label_HW.shape, plane.shape, num_classes)
        p_P = plane[scored]
        _add_bins(found, 1 + k, p_P, truth_P == k)
        _add_class(found, k, p_P, truth_P == k)
        np.copyto(winner_P, p_P, where=predicted_P == k)
        sum_P += p_P
    _check_sums(sum_P)
    _add_bins(found, 0, winner_P, predicted_P == truth_P)
    return found


def _add_bins(
    found: CalibrationCounts, row: int, p_P: NDArray[np.floating], right_P: NDArray[np.bool_]
) -> None:
    num_bins = found.pixels.shape[1]
    wide_P = p_P.astype(np.float64)
    bins_P = np.clip(np.ceil(wide_P * num_bins).astype(np.intp) - 1, 0, num_bins - 1)
    found.pixels[row] += np.bincount(bins_P, minlength=num_bins)
    found.right[row] += np.bincount(bins_P[right_P], minlength=num_bins)
    found.confidence[row] += np.bincount(bins_P, weights=wide_P, minlength=num_bins)


def _add_class(
    found: CalibrationCounts, k: int, p_P: NDArray[np.floating], right_P: NDArray[np.bool_]
) -> None:
    if p_P.size and p_P.min() < 0:
        raise _not_probabilities(p_P.min(), p_P.max())
    # Σ(p − y)² = Σp² − 2·Σp(of the class) + n(of the class), without an array of y.
    of_class = p_P[right_P].sum(dtype=np.float64)
    found.squares[k] += np.square(p_P, dtype=np.float64).sum() - 2 * of_class + right_P.sum()
    bins_P = score_bins(p_P.astype(np.float32, copy=False))
    of_it = np.bincount(bins_P[right_P], minlength=SCORE_BINS)
    found.scores[k, 1] += of_it
    found.scores[k, 0] += np.bincount(bins_P, minlength=SCORE_BINS) - of_it


def expected_calibration_error(counts: CalibrationCounts) -> NDArray[np.float64]:
    """Mean of |accuracy − confidence| over the bins of the winning class, weighted by pixels.

    Returns:
        … float64; NaN without any pixel.
    """
    return _gap(counts.pixels, counts.right, counts.confidence)[..., 0]


def class_calibration_errors(counts: CalibrationCounts) -> NDArray[np.float64]:
    """Return the same for the bins of each class, …×K; NaN without any pixel."""
    return _gap(counts.pixels, counts.right, counts.confidence)[..., 1:]


def brier(counts: CalibrationCounts) -> NDArray[np.float64]:
    """Mean over pixels of Σ(p − y)² over all classes, 0…2; NaN without any pixel."""
    return ratio(counts.squares.sum(axis=-1), counts.pixels[..., 0, :].sum(axis=-1), NAN)


def class_brier(counts: CalibrationCounts) -> NDArray[np.float64]:
    """Mean over pixels of (p − y)² of each class, …×K, 0…1; NaN without any pixel."""
    return ratio(counts.squares, counts.pixels[..., 1:, :].sum(axis=-1), NAN)


def _gap(
    pixels: NDArray[np.number], right: NDArray[np.number], confidence: NDArray[np.float64]
) -> NDArray[np.float64]:
    return ratio(np.abs(right - confidence).sum(axis=-1), pixels.sum(axis=-1), NAN)


class Calibration:
    """The counts of as many images or batches as are added, for use from Python.

    Args:
        num_classes: K.
        ignore_index: label value of pixels that are not scored.
        num_bins: of equal width.
    """

    def __init__(
        self, num_classes: int, ignore_index: int = 255, *, num_bins: int = NUM_BINS
    ) -> None:
        self._ignore_index = ignore_index
        self.counts = nothing(num_classes, num_bins)

    def update(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
        """Add the pixels of one image or batch.

        Args:
            labels: train ids or `ignore_index`, any shape.
            probabilities: the same shape with K beside it, 0…1, sums to 1.

        Raises:
            DataError: as `count`.
        """
        num_classes = len(self.counts.squares)
        if probabilities.shape != (*labels.shape, num_classes):
            raise _unfit(labels.shape, probabilities.shape, num_classes)
        self.counts += count(
            labels,
            probabilities.argmax(axis=-1),
            np.moveaxis(probabilities, -1, 0),
            num_classes,
            ignore_index=self._ignore_index,
            num_bins=self.counts.pixels.shape[1],
        )

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels in each bin of the winning class."""
        pixels: NDArray[np.int64] = self.counts.pixels[0].copy()
        return pixels

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of right pixels in each bin; NaN where it is empty."""
        return ratio(self.counts.right[0], self.counts.pixels[0], NAN)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Mean probability of the winning class in each bin; NaN where it is empty."""
        return ratio(self.counts.confidence[0], self.counts.pixels[0], NAN)

    @property
    def expected_calibration_error(self) -> float:
        """See the function of this name."""
        return float(expected_calibration_error(self.counts))

    @property
    def brier(self) -> float:
        """See the function of this name."""
        return float(brier(self.counts))


def _check_labels(truth_P: NDArray[np.integer], num_classes: int, ignore_index: int) -> None:
    if truth_P.size and (truth_P.min() < 0 or truth_P.max() >= num_classes):
        raise DataError(
            "SEG-M015",
            "label outside the classes",
            observed=f"{truth_P.min()}…{truth_P.max()}",
            allowed=f"0…{num_classes - 1}, or {ignore_index} (ignored)",
        )


def _check_sums(sum_P: NDArray[np.float64]) -> None:
    if not (np.abs(sum_P - 1) < 1e-3).all():
        raise _not_probabilities(sum_P.min(), sum_P.max())


def _not_probabilities(lowest: float, highest: float) -> DataError:
    return DataError(
        "SEG-M016",
        "not probabilities",
        observed=f"values or sums from {lowest:.4g} to {highest:.4g}",
        allowed="0 or more, a sum of 1 over the classes",
        next_step="apply the softmax first",
    )


def _unfit(labels: Sequence[int], probabilities: Sequence[int], num_classes: int) -> DataError:
    return DataError(
        "SEG-M014",
        "probabilities and labels differ in shape",
        observed=f"labels {tuple(labels)}, probabilities {tuple(probabilities)}",
        allowed=f"one shape, and {num_classes} classes",
    )
