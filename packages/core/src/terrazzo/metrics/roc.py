"""Area under the ROC curve of each class against all others, from probabilities.

Pixels are counted by their probability of the class, in `SCORE_BINS` bins that are an octave / 32
wide: of p below one half, of 1 − p above, down to 2⁻²⁴. Narrow where a softmax puts most pixels;
any order of images gives the same integers. Two pixels in one bin count as a tie, so an area is off
by `area_errors` at most: near 0 for the usual probabilities, and much where those of a class are
nearly the same everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from terrazzo.metrics.image_counts import ratio

# A float32 without its 18 lowest bits: sign, exponent, and five bits for 32 bins an octave.
_SHIFT = 18
_SMALLEST = 3295  # of what is below 2^-24
_HALF = 737  # bins below one half

SCORE_BINS = 2 * _HALF + 1
"""S: 737 below one half, one for one half itself, 737 above."""


def score_bins(probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the bin of each probability, 0…S−1; a higher probability is never in a lower bin."""
    nearer_end = np.minimum(probabilities, 1 - probabilities)
    bits: NDArray[np.int32] = nearer_end.view(np.int32)
    bins: NDArray[np.int32] = np.maximum(bits >> _SHIFT, _SMALLEST) - _SMALLEST
    # Mirrored above one half; in arithmetic, because np.where takes longer than all the rest.
    above = (probabilities >= 0.5).view(np.int8).astype(np.int32)
    bins += above * (SCORE_BINS - 1 - 2 * bins)
    return bins


def areas(scores: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each class.

    It is the share of pairs, a pixel of the class and one of another, where the first has the
    higher probability of the class; a tie is half a pair (Hanley & McNeil 1982).

    Args:
        scores: …×2×S int64: pixels not of the class, and of it.

    Returns:
        … float64; NaN where one of the two kinds has no pixel.
    """
    others, of_it = scores[..., 0, :].astype(np.float64), scores[..., 1, :].astype(np.float64)
    below = np.cumsum(others, axis=-1) - others
    won = (of_it * (below + others / 2)).sum(axis=-1)
    return ratio(won, others.sum(axis=-1) * of_it.sum(axis=-1), float("nan"))


def area_errors(scores: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each of `areas` can be from that of the probabilities themselves.

    Half the share of pairs that lie in one bin: any order within the bins gives an area that is no
    farther off, whatever the number of bins.

    Args:
        scores: as for `areas`; S may be that of another version.

    Returns:
        … float64, 0…0.5; NaN where the area is.
    """
    others, of_it = scores[..., 0, :].astype(np.float64), scores[..., 1, :].astype(np.float64)
    tied = (of_it * others).sum(axis=-1)
    return ratio(tied / 2, others.sum(axis=-1) * of_it.sum(axis=-1), float("nan"))


def above_thresholds(
    scores: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many pixels lie at or above each threshold, the highest threshold first.

    The first entry is above every probability and the last holds all pixels; their shares are the
    points of the ROC curve, and precision and recall follow from them.

    Args:
        scores: 2×S int64 as for `areas`.

    Returns:
        Pixels not of the class, and of it: S + 1 float64 each.
    """
    counted = np.concatenate([np.zeros((2, 1)), np.cumsum(scores[:, ::-1], axis=1)], axis=1)
    return counted[0], counted[1]
