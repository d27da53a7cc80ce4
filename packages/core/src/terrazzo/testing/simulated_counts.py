"""Confusion counts of test splits of which the true scores are known, to try intervals on.

Five classes lie in 100, 90, 50, 25 and 12 per cent of the images, in sizes that are skewed. Some
images are hard for all classes and runs alike; each run errs in its own way as well, and so does
each seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRESENCE = (1.0, 0.9, 0.5, 0.25, 0.12)
"""Shares of the images that hold each class."""
_SIZES = np.array([6.0, 4.0, 2.0, 1.0, 0.5])
_EASE = np.array([2.6, 1.8, 1.2, 0.8, 0.5])
_PIXELS = 10_000


def draw_splits(
    random: np.random.Generator,
    num_images: int,
    seeds_RK: Floats,
    *,
    presence: Sequence[float] = PRESENCE,
) -> NDArray[np.int64]:
    """Draw R×N×K×K counts of R runs on one split.

    Args:
        random: source of chance.
        num_images: N.
        seeds_RK: what the training of each run adds to the ease of each class (logit of recall).
        presence: of the classes.
    """
    num_runs, num_classes = seeds_RK.shape
    truth_NK, ease_NK = _truth(random, num_images, presence)
    own_RNK = random.normal(0, 0.5, (num_runs, num_images, num_classes))
    recall_RNK = 1 / (1 + np.exp(-(ease_NK + own_RNK + seeds_RK[:, None])))
    right_RNK = np.round(recall_RNK * truth_NK)
    # Errors go to the other classes, rather to those in the image.
    liking_RNK = np.exp(random.normal(0, 0.7, right_RNK.shape)) * (np.sqrt(truth_NK) + 0.3)
    share_RNKK = np.repeat(liking_RNK[:, :, None], num_classes, axis=2)
    diagonal = np.arange(num_classes)
    share_RNKK[:, :, diagonal, diagonal] = 0
    share_RNKK /= share_RNKK.sum(axis=3, keepdims=True)
    wrong_RNKK = share_RNKK * (truth_NK - right_RNK)[..., None]
    counts = np.floor(np.cumsum(wrong_RNKK, axis=3) + 0.5)
    counts = np.diff(counts, axis=3, prepend=0.0)
    counts[:, :, diagonal, diagonal] += truth_NK - counts.sum(axis=3)
    return counts.astype(np.int64)


def _truth(
    random: np.random.Generator, num_images: int, presence: Sequence[float]
) -> tuple[Floats, Floats]:
    held_NK = random.random((num_images, len(presence))) < np.asarray(presence)
    size_NK = np.exp(random.normal(0, 1.0, held_NK.shape)) * _SIZES[: len(presence)] * held_NK
    truth_NK = np.round(size_NK * _PIXELS / np.maximum(size_NK.sum(axis=1, keepdims=True), 1e-9))
    hard_N1 = random.normal(0, 0.6, (num_images, 1))
    return truth_NK, _EASE[: len(presence)] + hard_N1 + random.normal(0, 0.8, held_NK.shape)
