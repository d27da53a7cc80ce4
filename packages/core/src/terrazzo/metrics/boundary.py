"""Scores near borders: Boundary IoU and trimap IoU, as integer pixels a class.

Source: Cheng, Girshick, Dollár, Berg, Kirillov, "Boundary IoU", CVPR 2021. Boundary IoU compares
the inner bands of truth and prediction, so it answers to errors of large objects' outlines that IoU
hardly sees. Trimap IoU compares whole masks within a band around the true border only, and so
does not see errors outside of it.

The paper does not say what to do at ignored pixels. Here they are of no class: they make no
border, in truth or in prediction, and are counted nowhere. The edge of the image is a border,
as in the paper's code.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.metrics.image_counts import ClassPixels

PART_OF_DIAGONAL = 0.02
"""Width of the band in the paper, as a part of the image's diagonal (Cityscapes: 0.005)."""

_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)


def band_width(height: int, width: int, part_of_diagonal: float = PART_OF_DIAGONAL) -> int:
    """Return the width of the boundary band in pixels, at least 1.

    Raises:
        ConfigError: SEG-M013, the part is not between 0 and 1.
    """
    if not 0 < part_of_diagonal < 1:
        raise ConfigError(
            "SEG-M013",
            "the width of the boundary band must be a part of the diagonal",
            observed=part_of_diagonal,
            allowed="above 0, below 1; 0.02 in the paper",
        )
    return max(1, round(part_of_diagonal * math.hypot(height, width)))


def boundary_pixels(
    label_HW: NDArray[np.integer],
    prediction_HW: NDArray[np.integer],
    num_classes: int,
    *,
    width: int,
    ignore_index: int = 255,
) -> ClassPixels:
    """Count the inner boundary band of each class.

    IoU is true positives / union, summed over images or not.

    Args:
        label_HW: train ids or `ignore_index`.
        prediction_HW: train ids.
        num_classes: K.
        width: pixels, see `band_width`.
        ignore_index: of pixels that are of no class.

    Returns:
        K int64 each.

    Raises:
        DataError: SEG-M001, the shapes differ.
    """
    _check(label_HW, prediction_HW)
    ignored_HW = label_HW == ignore_index
    counts = np.zeros((3, num_classes), dtype=np.int64)
    for k in _present(label_HW, prediction_HW, num_classes):
        truth_HW = _inner_band((label_HW == k) & ~ignored_HW, ignored_HW, width)
        predicted_HW = _inner_band((prediction_HW == k) & ~ignored_HW, ignored_HW, width)
        counts[:, k] = _sums(truth_HW, predicted_HW)
    return ClassPixels(*counts)


def trimap_pixels(
    label_HW: NDArray[np.integer],
    prediction_HW: NDArray[np.integer],
    num_classes: int,
    *,
    width: int,
    ignore_index: int = 255,
) -> ClassPixels:
    """Count the pixels of each class within `width` of its true border, on either side.

    Arguments, result and errors as of `boundary_pixels`.
    """
    _check(label_HW, prediction_HW)
    ignored_HW = label_HW == ignore_index
    counts = np.zeros((3, num_classes), dtype=np.int64)
    for k in _present(label_HW, prediction_HW, num_classes):
        truth_HW = (label_HW == k) & ~ignored_HW
        other_HW = ~truth_HW & ~ignored_HW
        # Beyond the image there is nothing to count, so its edge bounds the inner side alone.
        outer_HW = _dilated(truth_HW, width) & other_HW
        band_HW = _inner_band(truth_HW, ignored_HW, width) | outer_HW
        predicted_HW = (prediction_HW == k) & ~ignored_HW
        counts[:, k] = _sums(truth_HW & band_HW, predicted_HW & band_HW)
    return ClassPixels(*counts)


def _present(
    label_HW: NDArray[np.integer], prediction_HW: NDArray[np.integer], num_classes: int
) -> NDArray[np.intp]:
    """Return the classes there is something to count of: a few of many in most images."""
    seen_K = np.zeros(num_classes, np.bool_)
    for ids_HW in (label_HW, prediction_HW):
        pixels = np.bincount(ids_HW.reshape(-1), minlength=num_classes)[:num_classes]
        seen_K |= pixels > 0
    return np.flatnonzero(seen_K)


def _inner_band(
    mask_HW: NDArray[np.bool_], ignored_HW: NDArray[np.bool_], width: int
) -> NDArray[np.bool_]:
    """Return the pixels of the mask within `width` (chessboard distance) of what is not in it."""
    solid_HW = np.pad(mask_HW | ignored_HW, 1).astype(np.uint8)
    core_HW = cv2.erode(solid_HW, _NEIGHBOURS, iterations=width)[1:-1, 1:-1]
    band_HW: NDArray[np.bool_] = mask_HW & (core_HW == 0)
    return band_HW


def _dilated(mask_HW: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    grown: NDArray[np.bool_] = (
        cv2.dilate(mask_HW.astype(np.uint8), _NEIGHBOURS, iterations=width) > 0
    )
    return grown


def _sums(truth_HW: NDArray[np.bool_], predicted_HW: NDArray[np.bool_]) -> tuple[int, int, int]:
    both = int(np.count_nonzero(truth_HW & predicted_HW))
    return both, int(np.count_nonzero(truth_HW)), int(np.count_nonzero(predicted_HW))


def _check(label_HW: NDArray[np.integer], prediction_HW: NDArray[np.integer]) -> None:
    if label_HW.shape != prediction_HW.shape or label_HW.ndim != 2:
        raise DataError(
            "SEG-M001",
            "labels and predictions differ in shape",
            observed=f"labels {label_HW.shape}, predictions {prediction_HW.shape}",
            allowed="H×W, the same",
            next_step="bring predictions to the size of the labels, never labels to theirs",
        )
