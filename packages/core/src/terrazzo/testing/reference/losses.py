"""What the loss terms of a recipe mean, each with its gradient, in float64.

Leading axes are free: ``...`` may be B×H×W or nothing but a list of pixels. Pixels labelled
`ignore` count nowhere and have gradient 0, whatever their logits are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terrazzo.config import LossConfig
from terrazzo.sample import IGNORE


class Loss(NamedTuple):
    """A loss and its gradient with respect to the logits, of the logits' shape."""

    value: float
    gradient: NDArray[np.float64]


def total(
    config: LossConfig,
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    ignore: int = IGNORE,
) -> Loss:
    """Return the sum of the terms of `config`, each times its factor. Arguments as in the terms."""
    terms = [
        (config.cross_entropy, cross_entropy(logits, labels, config.class_weights, ignore)),
        (config.dice, dice(logits, labels, config.class_weights, ignore)),
    ]
    value = sum(factor * term.value for factor, term in terms if factor)
    gradient = np.zeros(logits.shape)
    for factor, term in terms:
        if factor:
            gradient += factor * term.gradient
    return Loss(value, gradient)


def cross_entropy(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_weights: ArrayLike | None = None,
    ignore: int = IGNORE,
) -> Loss:
    """Return the weighted mean of −log p[y] over the valid pixels of the batch.

    Args:
        logits: …×K.
        labels: … train ids, or `ignore`.
        class_weights: K weights w; a pixel weighs w[y]. None: all 1.
        ignore: label of pixels that do not count.

    Returns:
        Σ w[y]·(−log p[y]) / Σ w[y], and its gradient; 0 where Σ w[y] is 0.
    """
    valid, log_p_NK, t_NK = _valid_pixels(logits, labels, ignore)
    weights_N = t_NK @ _weights(class_weights, logits.shape[-1])
    gradient = np.zeros(logits.shape)
    if weights_N.sum() == 0:
        return Loss(0.0, gradient)
    weights_N /= weights_N.sum()
    gradient[valid] = weights_N[:, None] * (np.exp(log_p_NK) - t_NK)
    return Loss(float(-weights_N @ (t_NK * log_p_NK).sum(axis=1)), gradient)


def dice(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_weights: ArrayLike | None = None,
    ignore: int = IGNORE,
) -> Loss:
    """Return the soft Dice loss over the valid pixels of the whole batch.

    Args:
        logits: …×K.
        labels: … train ids, or `ignore`.
        class_weights: K weights of the mean over classes. None: all 1.
        ignore: label of pixels that do not count.

    Returns:
        With I = Σ p·t, P = Σ p, T = Σ t of each class: the weighted mean of 1 − 2I / (P + T) over
        the classes with T > 0, and its gradient; 0 where there is no such class. Source: Milletari
        et al. 2016, V-Net, with P and T not squared.
    """
    valid, log_p_NK, t_NK = _valid_pixels(logits, labels, ignore)
    weights_K = _weights(class_weights, logits.shape[-1]) * (t_NK.sum(axis=0) > 0)
    gradient = np.zeros(logits.shape)
    if weights_K.sum() == 0:
        return Loss(0.0, gradient)
    weights_K /= weights_K.sum()
    p_NK = np.exp(log_p_NK)
    both_K = (p_NK * t_NK).sum(axis=0)
    sum_K = (p_NK + t_NK).sum(axis=0)
    slope_NK = weights_K * 2 * (both_K / sum_K - t_NK) / sum_K
    # Through the softmax: dp_j / dz_k = p_j (δ_jk − p_k).
    gradient[valid] = p_NK * (slope_NK - (p_NK * slope_NK).sum(axis=1, keepdims=True))
    return Loss(float(weights_K @ (1 - 2 * both_K / sum_K)), gradient)


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log p …×K; no overflow for large logits."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _valid_pixels(
    logits: NDArray[np.floating], labels: NDArray[np.integer], ignore: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return where the labels are valid, and there log p (N×K) and the one-hot truth (N×K)."""
    valid = labels != ignore
    return valid, log_softmax(logits[valid]), np.eye(logits.shape[-1])[labels[valid]]


def _weights(class_weights: ArrayLike | None, num_classes: int) -> NDArray[np.float64]:
    weights = np.ones(num_classes) if class_weights is None else np.array(class_weights, float)
    assert weights.shape == (num_classes,)
    return weights
