"""What a person should know before reading the scores of a split, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEW_IMAGES = 10
"""Below it, one image has a large say in every score."""
_MOST_NAMES = 8
_BACKGROUND = frozenset({"background", "bg", "_background_"})


def remarks(split: str, counts: ArrayLike, names: Sequence[str], images: int) -> list[str]:
    """Return what is wrong, or wants care, with the scores of a split; nothing as a rule.

    Args:
        split: its name.
        counts: K×K pixels, rows truth, columns prediction.
        names: of the K classes.
        images: of the split.
    """
    counts_KK = np.asarray(counts)
    true_K, predicted_K = counts_KK.sum(axis=1), counts_KK.sum(axis=0)
    found = []
    never = [name for name, t, p in zip(names, true_K, predicted_K, strict=True) if t and not p]
    if never:
        verb = "was" if len(never) == 1 else "were"
        found.append(f"{len(never)} of {len(names)} classes {verb} never predicted: {_list(never)}")
    absent = [name for name, t in zip(names, true_K, strict=True) if not t]
    if absent and true_K.any():
        verb = "is" if len(absent) == 1 else "are"
        found.append(
            f"{len(absent)} of {len(names)} classes {verb} not in the labels of {split}: "
            f"{_list(absent)}"
        )
    if images < FEW_IMAGES:
        what = "1 image" if images == 1 else f"{images} images"
        found.append(f"{split} is {what}: one image more or less would change every score")
    return found


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def foreground_mean(values: ArrayLike, names: Sequence[str]) -> float | None:
    """Return the mean over the classes that are not called background; None where none is.

    Args:
        values: K scores; NaN of absent classes, which do not count.
        names: of the K classes.
    """
    is_background = [name.strip().lower() in _BACKGROUND for name in names]
    if not any(is_background):
        return None
    values_K: NDArray[np.float64] = np.asarray(values, np.float64)[~np.array(is_background)]
    present = values_K[~np.isnan(values_K)]
    return float(present.mean()) if len(present) else math.nan
