"""Weights of the classes in the loss, drawn from the labels of a training split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.datasets import Split


def class_weights(train: Split, rule: str) -> tuple[float, ...]:
    """Return a weight for each class, drawn from the labels of a training split.

    Args:
        train: all its labels are read.
        rule: ``inverse_frequency``, 1 / share of the class among all valid pixels; or
            ``median_frequency``, median of all shares / share, where a share is taken over the
            images that hold the class (Eigen and Fergus 2015, section 6.3.2).

    Returns:
        K weights with a mean of 1 over the classes that occur; 0 for the others.
    """
    num_classes = len(train.label_map)
    pixels_NK = np.zeros((len(train), num_classes), np.int64)
    for index in range(len(train)):
        labels_HW = train.read(index).label_HW
        valid = labels_HW[labels_HW != train.label_map.ignore_index]
        pixels_NK[index] = np.bincount(valid.ravel(), minlength=num_classes)
    return weights_of_counts(pixels_NK, rule)


def weights_of_counts(pixels_NK: NDArray[np.int64], rule: str) -> tuple[float, ...]:
    """Return the weights of `class_weights` for pixels of each class in each image."""
    num_classes = pixels_NK.shape[1]
    pixels_K = pixels_NK.sum(axis=0).astype(np.float64)
    pixels_beside_K = (pixels_NK.sum(axis=1, keepdims=True) * (pixels_NK > 0)).sum(axis=0)
    occurs_K = pixels_K > 0
    if not occurs_K.any():
        return tuple(0.0 for _ in range(num_classes))
    whole_K = pixels_beside_K if rule == "median_frequency" else pixels_K.sum()
    weights_K: NDArray[np.float64] = np.divide(
        whole_K, pixels_K, where=occurs_K, out=np.zeros(num_classes)
    )
    return tuple(map(float, weights_K / max(weights_K[occurs_K].mean(), 1e-300)))
