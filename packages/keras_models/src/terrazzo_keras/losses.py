"""Losses in float32, the same numbers as `terrazzo_torch.losses`. IGNORE counts in no term.

Shape legend: see `terrazzo.sample`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import ops

if TYPE_CHECKING:
    from terrazzo.config import LossConfig


def total(config: LossConfig, logits_BHWK: Any, labels_BHW: Any, ignore_index: int) -> Any:
    """Return the weighted sum of the terms as a float32 scalar.

    Args:
        config: weights of the terms and of the classes.
        logits_BHWK: of any floating type.
        labels_BHW: integers; train ids or `ignore_index`.
        ignore_index: label of pixels that teach nothing. Where all pixels are such, the loss is 0
            and so is its gradient.
    """
    logits_BHWK = ops.cast(logits_BHWK, "float32")
    labels_BHW = ops.cast(labels_BHW, "int32")
    valid_BHW = ops.not_equal(labels_BHW, ignore_index)
    # Any class will do for ignored pixels: they are multiplied by 0.
    labels_BHW = ops.where(valid_BHW, labels_BHW, 0)
    valid_BHW = ops.cast(valid_BHW, "float32")
    num_classes = logits_BHWK.shape[-1]
    class_weights = config.class_weights or (1.0,) * num_classes
    weights_K = ops.convert_to_tensor(class_weights, "float32")
    loss = ops.zeros((), "float32")
    if config.cross_entropy:
        loss += config.cross_entropy * cross_entropy(logits_BHWK, labels_BHW, valid_BHW, weights_K)
    if config.dice:
        loss += config.dice * dice(logits_BHWK, labels_BHW, valid_BHW, weights_K)
    return loss


def cross_entropy(logits_BHWK: Any, labels_BHW: Any, valid_BHW: Any, weights_K: Any) -> Any:
    """Return Σ w[y]·(−log p[y]) / Σ w[y] over the valid pixels; 0 where that divisor is 0."""
    surprise_BHW = ops.sparse_categorical_crossentropy(labels_BHW, logits_BHWK, from_logits=True)
    weights_BHW = ops.take(weights_K, labels_BHW) * valid_BHW
    return _ratio(ops.sum(weights_BHW * surprise_BHW), ops.sum(weights_BHW))


def dice(logits_BHWK: Any, labels_BHW: Any, valid_BHW: Any, weights_K: Any) -> Any:
    """Return the weighted mean over classes of 1 − 2·Σpt / (Σp + Σt).

    Sums run over the valid pixels of the whole batch; p is the softmax, t the one-hot truth. A
    class without a pixel in the batch is left out of the mean; 0 where no class is left.
    Milletari, Navab, Ahmadi: V-Net, 3DV 2016 (arXiv:1606.04797), with the sums not squared.
    """
    valid_BHW1 = valid_BHW[..., None]
    probabilities_BHWK = ops.softmax(logits_BHWK, axis=-1) * valid_BHW1
    truth_BHWK = ops.one_hot(labels_BHW, logits_BHWK.shape[-1], dtype="float32") * valid_BHW1
    overlap_K = ops.sum(probabilities_BHWK * truth_BHWK, axis=(0, 1, 2))
    predicted_K = ops.sum(probabilities_BHWK, axis=(0, 1, 2))
    true_K = ops.sum(truth_BHWK, axis=(0, 1, 2))
    present_K = weights_K * ops.cast(true_K > 0, "float32")
    loss_K = 1 - 2 * _ratio(overlap_K, predicted_K + true_K)
    return _ratio(ops.sum(present_K * loss_K), ops.sum(present_K))


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Divide; 0 (and no NaN gradient) where the denominator, and with it the numerator, is 0."""
    return numerator / ops.where(denominator > 0, denominator, 1.0)
