"""Probabilities of K classes brought to another size, and the classes taken from them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray


def planes_at_size(
    probabilities_HWK: NDArray[np.float32], size: tuple[int, ...]
) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of each class, bilinearly resampled to `size` (rows, columns).

    One plane at a time: those of 19 classes at 2048×1024 would take 160 MB.
    """
    rows, columns = size
    for k in range(probabilities_HWK.shape[2]):
        plane_HW = np.ascontiguousarray(probabilities_HWK[..., k])
        if plane_HW.shape != (rows, columns):
            plane_HW = cv2.resize(plane_HW, (columns, rows), interpolation=cv2.INTER_LINEAR)
        yield plane_HW


def labels_at_size(
    probabilities_HWK: NDArray[np.float32], size: tuple[int, ...]
) -> NDArray[np.integer]:
    """Resample probabilities bilinearly to `size` (rows, columns), then take the best class.

    Returns:
        uint8 or uint16 train ids; the lower id where two are equal, as `argmax` does.
    """
    num_classes = probabilities_HWK.shape[2]
    labels_HW = np.zeros(size, np.uint8 if num_classes <= 254 else np.uint16)
    best_HW = np.full(size, -1, np.float32)
    # Plane by plane: a running maximum is several times faster than argmax over the last axis.
    for k, plane_HW in enumerate(planes_at_size(probabilities_HWK, size)):
        labels_HW[plane_HW > best_HW] = k
        np.maximum(best_HW, plane_HW, out=best_HW)
    return labels_HW


def batch_at_size(
    probabilities_BHWK: NDArray[np.float32], size: tuple[int, ...]
) -> NDArray[np.float32]:
    """Resample probabilities B×H×W×K bilinearly to `size` (rows, columns), as `planes_at_size`."""
    if probabilities_BHWK.shape[1:3] == tuple(size):
        return probabilities_BHWK
    return np.stack(
        [np.stack(list(planes_at_size(each, size)), axis=2) for each in probabilities_BHWK]
    )


_LEAST = np.float32(1e-12)
"""A probability that was rounded to 0 counts as this one."""


def cross_entropy_at_size(
    probabilities_HWK: NDArray[np.float32], label_HW: NDArray[np.generic], ignore_index: int
) -> float:
    """Return the cross-entropy summed over the pixels of a label that are not IGNORE, in nats.

    Args:
        probabilities_HWK: resampled bilinearly to the size of the label.
        label_HW: train ids.
        ignore_index: of the label map.
    """
    total = 0.0
    for k, plane_HW in enumerate(planes_at_size(probabilities_HWK, label_HW.shape)):
        if k != ignore_index:
            right = plane_HW[label_HW == k]
            total -= float(np.log(np.maximum(right, _LEAST)).sum(dtype=np.float64))
    return total
