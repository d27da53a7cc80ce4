"""The headline numbers of published comparisons, computed the way their code computes them.

They are here so that a reader can put a published number beside an honest one of the same label
maps. None of them is a mean IoU to publish.

(a) Keras SegFormer from synthetic to real streets; (b) ohmatheus/DeepLearning-Image-Segmentation;
(d) gvnberaldi/ImageSemanticSegmentation; (e) Onergrand/aerial_segmentation. (c),
davidrojas0791/VR_DL_4, took the bitwise AND and OR of class numbers, which is no function of
pixel counts by class and the IoU of nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from terrazzo.metrics.image_counts import ImageCounts, class_pixels, ratio

NAN = float("nan")
_SMOOTH = 1e-6  # as in (b)


def street_micro_iou(images: ImageCounts) -> float:
    """(a) the row "Mean": micro over classes, and a prediction on void is a false positive.

    The code can predict void as well, which our counts of K classes cannot hold.
    """
    right, wrong = _right_and_wrong(images)
    return float(ratio(right, right + 2 * wrong + images.pixels_ignored, NAN))


def street_micro_precision(images: ImageCounts) -> float:
    """(a) precision, as `street_micro_iou`: lower than the recall by the void alone."""
    right, wrong = _right_and_wrong(images)
    return float(ratio(right, right + wrong + images.pixels_ignored, NAN))


def street_micro_recall(images: ImageCounts) -> float:
    """(a) recall, as `street_micro_iou`: the pixel accuracy."""
    right, wrong = _right_and_wrong(images)
    return float(ratio(right, right + wrong, NAN))


def street_micro_f1(images: ImageCounts) -> float:
    """(a) F1, as `street_micro_iou`."""
    right, wrong = _right_and_wrong(images)
    return float(ratio(2 * right, 2 * (right + wrong) + images.pixels_ignored, NAN))


def last_batch_iou(images: ImageCounts, batch_size: int = 1) -> float:
    """(b) IoU of the last batch alone, from counts divided by the pixels of their true class.

    That division makes every class equally frequent, so frequent classes are no more taken for
    rare ones than the reverse; a class absent from the batch gets a row of ones.

    Args:
        images: in the order they were scored in.
        batch_size: of the evaluation; (b) does not say which it used.
    """
    if not len(images.counts_NKK):
        return NAN
    start = (len(images.counts_NKK) - 1) // batch_size * batch_size
    counts_KK = images.counts_NKK[start:].sum(axis=0)
    rows_KK = (counts_KK + _SMOOTH) / (counts_KK.sum(axis=1, keepdims=True) + _SMOOTH)
    right_K = np.diagonal(rows_KK)
    either_K = rows_KK.sum(axis=0) + rows_KK.sum(axis=1) - right_K
    return float(((right_K + _SMOOTH) / (either_K + _SMOOTH)).mean())


def dice_of_planes(images: ImageCounts) -> float:
    """(b) Dice: mean over all classes of all images, 1 for a class absent from an image."""
    pixels = class_pixels(images.counts_NKK)
    both_NK = pixels.in_truth + pixels.in_prediction
    dice_NK = (2 * pixels.true_positives + _SMOOTH) / (both_NK + _SMOOTH)
    return float(dice_NK.mean()) if dice_NK.size else NAN


def pets_mean_iou(images: ImageCounts) -> float:
    """(d) mean over all K classes of the summed pixels; an absent class scores 0."""
    pixels = class_pixels(images.total)
    return float(ratio(pixels.true_positives, pixels.union, 0.0).mean())


def hard_auc(counts_KK: NDArray[np.int64]) -> NDArray[np.float64]:
    """(d) "ROC AUC" of each class from labels instead of probabilities: (recall + specificity) / 2.

    Args:
        counts_KK: int64, rows truth, columns prediction.

    Returns:
        K float64; NaN for a class that is none or all of the truth.
    """
    pixels = class_pixels(counts_KK)
    others_K = counts_KK.sum() - pixels.in_truth
    recall_K = ratio(pixels.true_positives, pixels.in_truth, NAN)
    false_alarms_K = ratio(pixels.in_prediction - pixels.true_positives, others_K, NAN)
    halves: NDArray[np.float64] = (recall_K + 1 - false_alarms_K) / 2
    return halves


def cast_one_hot_iou(images: ImageCounts) -> float:
    """(e) "mean IoU": Keras MeanIoU fed one-hot truth and probabilities, both cut to integers.

    Every probability below 1 becomes 0, so the score is that of predicting "no" everywhere:
    (K-1)/K for "no", 0 for "yes", and their mean 0.4 for 5 classes, whatever the model does.
    """
    num_classes = len(images.class_names)
    return (num_classes - 1) / num_classes / 2 if images.pixels_counted else NAN


def _right_and_wrong(images: ImageCounts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    total_KK = images.total
    right = np.trace(total_KK)
    return np.asarray(right), np.asarray(total_KK.sum() - right)
