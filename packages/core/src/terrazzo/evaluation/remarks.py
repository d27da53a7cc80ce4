"""What a person should know before reading the scores of a split, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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


_RISE = 1.2
_EXPLOSION = 10.0
"""Times the lowest cross-entropy of the validations."""
_STALL = 0.01
"""Mean IoU; less is no gain."""
_RISING = 3
"""Validations above the lowest one, one after another, before it is said."""
_NORM_EXPLOSION = 100.0
"""Times the median norm of the gradient."""


def training_remarks(log: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what wants care in how a training went; nothing as a rule.

    Args:
        log: the lines of ``log.jsonl``; those of older versions, which lack the cross-entropy of
            validations and the norm of the gradient, say nothing.
    """
    return [*_of_validations(log), *_of_gradients(log)]


def _of_validations(log: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [e for e in log if e["kind"] == "validation" and e.get("cross_entropy") is not None]
    if len(found) <= _RISING:
        return []
    losses = [float(entry["cross_entropy"]) for entry in found]
    lowest = losses.index(min(losses))
    after, last = found[lowest + 1 :], found[-1]
    if len(after) < _RISING:
        return []
    rise = (
        f"{losses[lowest]:.3g} at step {found[lowest]['step']:,} to {losses[-1]:.3g} at step "
        f"{last['step']:,}"
    )
    if losses[-1] >= _EXPLOSION * losses[lowest]:
        return [
            f"the cross-entropy of the validations exploded, from {rise}: lower the learning rate "
            "or set training.clip_norm"
        ]
    gain = max(e["mean_iou"] for e in after) - max(e["mean_iou"] for e in found[: lowest + 1])
    if min(losses[-_RISING:]) < _RISE * losses[lowest] or gain >= _STALL:
        return []
    return [
        f"the cross-entropy of the validations rose from {rise} while mean IoU gained less than "
        f"{_STALL:g}: the model grows surer of its mistakes; fewer steps, more augmentation or "
        "weight decay would do"
    ]


def _of_gradients(log: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [e for e in log if e["kind"] == "train" and e.get("gradient_norm") is not None]
    if len(found) <= _RISING:
        return []
    norms = np.array([entry["gradient_norm"] for entry in found], np.float64)
    median, largest = float(np.median(norms)), int(norms.argmax())
    if norms[largest] < _NORM_EXPLOSION * median or median == 0:
        return []
    return [
        f"the gradient exploded at step {found[largest]['step']:,}: its norm was "
        f"{norms[largest]:.3g}, {median:.3g} in the median; training.clip_norm bounds it"
    ]


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
