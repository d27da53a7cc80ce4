"""Whether probabilities mean what they say: expected calibration error and Brier score.

Sources: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017 (bins
of equal width, the winning class); Brier, Monthly Weather Review 78, 1950 (all classes, 0…2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from terrazzo.errors import DataError
from terrazzo.metrics.picture_counts import ratio

NUM_BINS = 15
"""As in Guo et al."""

NAN = float("nan")


class Calibration:
    """Sums over the pixels that are not ignored, of as many pictures as are added.

    Args:
        num_classes: K.
        ignore_index: label value of pixels that are not scored.
        num_bins: of equal width, for the probability of the winning class.
    """

    def __init__(
        self, num_classes: int, ignore_index: int = 255, *, num_bins: int = NUM_BINS
    ) -> None:
        self._num_classes = num_classes
        self._ignore_index = ignore_index
        self._pixels = np.zeros(num_bins, dtype=np.int64)
        self._right = np.zeros(num_bins, dtype=np.int64)
        self._confidence = np.zeros(num_bins)
        self._squares = 0.0

    def update(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
        """Add the pixels of one picture or batch.

        Args:
            labels: train ids or `ignore_index`, any shape.
            probabilities: the same shape with K beside it, 0…1, sums to 1.

        Raises:
            DataError: SEG-M014 the shapes do not fit; SEG-M015 a label is outside the classes;
                SEG-M016 these are not probabilities.
        """
        self._check(labels, probabilities)
        scored = labels != self._ignore_index
        truth_P = labels[scored].astype(np.intp)
        probabilities_PK = probabilities[scored].astype(np.float64)
        winner_P = probabilities_PK.argmax(axis=1)
        confidence_P = probabilities_PK.max(axis=1, initial=0.0)
        num_bins = len(self._pixels)
        # Bins are (a, b], as in the paper: a probability of 1 is in the last one.
        bins_P = np.clip(np.ceil(confidence_P * num_bins).astype(np.intp) - 1, 0, num_bins - 1)
        self._pixels += np.bincount(bins_P, minlength=num_bins)
        self._right += np.bincount(bins_P[winner_P == truth_P], minlength=num_bins)
        self._confidence += np.bincount(bins_P, weights=confidence_P, minlength=num_bins)
        of_truth_P = probabilities_PK[np.arange(len(truth_P)), truth_P]
        # Σ(p − y)² = Σp² − 2·p(truth) + 1, without a one-hot array.
        self._squares += float((probabilities_PK**2).sum() - 2 * of_truth_P.sum() + len(truth_P))

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels in each bin."""
        return self._pixels.copy()

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of right pixels in each bin; NaN where it is empty."""
        return ratio(self._right, self._pixels, NAN)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Mean probability of the winning class in each bin; NaN where it is empty."""
        return ratio(self._confidence, self._pixels, NAN)

    @property
    def expected_calibration_error(self) -> float:
        """Mean of |accuracy − confidence| over the bins, weighted by pixels; NaN without any."""
        gaps = np.abs(self._right - self._confidence).sum()
        return float(ratio(gaps, self._pixels.sum(), NAN))

    @property
    def brier(self) -> float:
        """Mean over pixels of Σ(p − y)² over all classes, 0…2; NaN without any pixel."""
        return float(ratio(np.asarray(self._squares), self._pixels.sum(), NAN))

    def _check(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
        if probabilities.shape != (*labels.shape, self._num_classes):
            raise DataError(
                "SEG-M014",
                "probabilities and labels differ in shape",
                observed=f"labels {labels.shape}, probabilities {probabilities.shape}",
                allowed=f"probabilities {(*labels.shape, self._num_classes)}",
            )
        scored = labels[labels != self._ignore_index]
        if scored.size and (scored.min() < 0 or scored.max() >= self._num_classes):
            raise DataError(
                "SEG-M015",
                "label outside the classes",
                observed=f"{scored.min()}…{scored.max()}",
                allowed=f"0…{self._num_classes - 1}, or {self._ignore_index} (ignored)",
            )
        sums = probabilities.sum(axis=-1, dtype=np.float64)
        if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():
            raise DataError(
                "SEG-M016",
                "not probabilities",
                observed=f"sums from {sums.min():.4g} to {sums.max():.4g}",
                allowed="0 or more, a sum of 1 over the classes",
                next_step="apply the softmax first",
            )
