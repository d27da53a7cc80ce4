"""What the loss terms of a recipe mean, each with its gradient, in float64.

Leading axes are free: ``...`` may be B×H×W or nothing but a list of pixels. Pixels labelled
`ignore` count nowhere and have gradient 0, whatever their logits are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terrazzo.base.recipe import LossConfig
from terrazzo.data.sample import IGNORE


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
    assert not isinstance(config.class_weights, str)  # resolved from the labels before this
    common = (logits, labels, config.class_weights, ignore)
    terms = [
        (config.cross_entropy, cross_entropy, ()),
        (config.dice, dice, ()),
        (config.soft_iou, soft_iou, ()),
        (config.focal, focal, (config.focal_gamma,)),
        (config.lovasz, lovasz, ()),
    ]
    value, gradient = 0.0, np.zeros(logits.shape)
    for factor, term, extra in terms:
        if factor:
            loss = term(*common, *extra)
            value += factor * loss.value
            gradient += factor * loss.gradient
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
    gradient[valid] = _through_softmax(p_NK, slope_NK)
    return Loss(float(weights_K @ (1 - 2 * both_K / sum_K)), gradient)


def soft_iou(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_weights: ArrayLike | None = None,
    ignore: int = IGNORE,
) -> Loss:
    """Return the soft IoU loss over the valid pixels of the whole batch. Arguments as in `dice`.

    Returns:
        With I = Σ p·t and U = Σ (p + t − p·t) of each class: the weighted mean of 1 − I / U over
        the classes with a pixel, and its gradient; 0 where there is no such class. Source: Rahman
        and Wang 2016, "Optimizing intersection-over-union in deep neural networks".
    """
    valid, log_p_NK, t_NK = _valid_pixels(logits, labels, ignore)
    weights_K = _weights(class_weights, logits.shape[-1]) * (t_NK.sum(axis=0) > 0)
    gradient = np.zeros(logits.shape)
    if weights_K.sum() == 0:
        return Loss(0.0, gradient)
    weights_K /= weights_K.sum()
    p_NK = np.exp(log_p_NK)
    both_K = (p_NK * t_NK).sum(axis=0)
    either_K = (p_NK + t_NK - p_NK * t_NK).sum(axis=0)
    slope_NK = -weights_K * (t_NK * either_K - both_K * (1 - t_NK)) / either_K**2
    gradient[valid] = _through_softmax(p_NK, slope_NK)
    return Loss(float(weights_K @ (1 - both_K / either_K)), gradient)


def focal(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_weights: ArrayLike | None = None,
    ignore: int = IGNORE,
    gamma: float = 2.0,
) -> Loss:
    """Return the weighted mean of (1 − p[y])^γ · −log p[y] over the valid pixels of the batch.

    Arguments and divisor as in `cross_entropy`. Source: Lin et al. 2017, "Focal loss for dense
    object detection"; their α is the class weight.
    """
    valid, log_p_NK, t_NK = _valid_pixels(logits, labels, ignore)
    weights_N = t_NK @ _weights(class_weights, logits.shape[-1])
    gradient = np.zeros(logits.shape)
    if weights_N.sum() == 0:
        return Loss(0.0, gradient)
    weights_N /= weights_N.sum()
    log_p_N = (t_NK * log_p_NK).sum(axis=1)
    p_N = np.exp(log_p_N)
    doubt_N = 1 - p_N
    bend_N = gamma * doubt_N ** (gamma - 1) * p_N * log_p_N if gamma else 0
    slope_N = weights_N * (bend_N - doubt_N**gamma)
    gradient[valid] = slope_N[:, None] * (t_NK - np.exp(log_p_NK))
    return Loss(float(-weights_N @ (doubt_N**gamma * log_p_N)), gradient)


def lovasz(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_weights: ArrayLike | None = None,
    ignore: int = IGNORE,
) -> Loss:
    """Return the Lovász-softmax loss by image; the first axis is the image.

    Returns:
        The mean over the images of the weighted mean over the classes present in the image of
        the Lovász extension of the Jaccard loss at the errors |t − p|, and its gradient. Images
        without a weighted class do not count. Source: Berman et al. 2018, "The Lovász-softmax
        loss", with ``per_image`` and ``classes = 'present'``.
    """
    gradient = np.zeros(logits.shape)
    values = []
    for image, (logits_image, labels_image) in enumerate(zip(logits, labels, strict=True)):
        valid, log_p_NK, t_NK = _valid_pixels(logits_image, labels_image, ignore)
        weights_K = _weights(class_weights, logits.shape[-1]) * (t_NK.sum(axis=0) > 0)
        if weights_K.sum() == 0:
            continue
        p_NK = np.exp(log_p_NK)
        losses_K, slope_NK = np.zeros(len(weights_K)), np.zeros(p_NK.shape)
        for k in np.flatnonzero(weights_K):
            losses_K[k], slope_NK[:, k] = _lovasz_of_class(p_NK[:, k], t_NK[:, k])
        weights_K /= weights_K.sum()
        values.append(float(weights_K @ losses_K))
        gradient[image][valid] = _through_softmax(p_NK, weights_K * slope_NK)
    return Loss(sum(values) / max(len(values), 1), gradient / max(len(values), 1))


def _lovasz_of_class(
    p_N: NDArray[np.float64], t_N: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the loss of one class in one image and its slope in p; algorithm 1 of the paper."""
    errors_N = np.abs(t_N - p_N)
    order_N = np.argsort(-errors_N, kind="stable")
    truth_N = t_N[order_N]
    jaccard_N = 1 - (t_N.sum() - np.cumsum(truth_N)) / (t_N.sum() + np.cumsum(1 - truth_N))
    share_N = np.diff(jaccard_N, prepend=0.0)
    slope_N = np.empty_like(p_N)
    slope_N[order_N] = share_N * np.where(truth_N == 1, -1, 1)
    return float(errors_N[order_N] @ share_N), slope_N


def _through_softmax(
    p_NK: NDArray[np.float64], slope_NK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn slopes in p into slopes in the logits: dp_j / dz_k = p_j (δ_jk − p_k)."""
    result: NDArray[np.float64] = p_NK * (slope_NK - (p_NK * slope_NK).sum(axis=1, keepdims=True))
    return result


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
