"""What the optimisers of a recipe mean, for one array of weights at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.recipe import OptimizerConfig

Array = NDArray[np.float32]


def empty_slots(config: OptimizerConfig, weights: Array) -> Array:
    """Return what the optimiser remembers of `weights` before the first step, S×(their shape).

    S is 1 for SGD (momentum), 2 for Adadelta (mean square of gradients and of updates), 2 for Adam
    and AdamW (first and second moment) or with `amsgrad` 3 (largest second moment).
    """
    num_slots = 1 if config.name == "sgd" else 2 + _keeps_largest(config)
    return np.zeros((num_slots, *weights.shape), weights.dtype)


def update(
    config: OptimizerConfig,
    weights: Array,
    gradient: Array,
    slots: Array,
    step: int,
    learning_rate: float,
) -> tuple[Array, Array]:
    """Return new weights and new slots; changes none of the arrays.

    Args:
        config: which optimiser, and its numbers.
        weights: any shape; decayed only by AdamW and only with two axes or more.
        gradient: of the weights' shape.
        slots: S×(the weights' shape), see `empty_slots`.
        step: counted from 1.
        learning_rate: of this step.

    Sources: Kingma and Ba 2015, Adam, algorithm 1; Loshchilov and Hutter 2019, AdamW, with a decay
    that is scaled by the learning rate; Reddi et al. 2018, AMSGrad, on the moments before their
    bias is corrected, as PyTorch has it; Zeiler 2012, Adadelta, times a learning rate.
    """
    if config.name == "sgd":
        momentum = config.momentum * slots[0] + gradient
        return weights - learning_rate * momentum, momentum[None]
    if config.name == "adadelta":
        square = config.rho * slots[0] + (1 - config.rho) * gradient**2
        change = np.sqrt((slots[1] + config.epsilon) / (square + config.epsilon)) * gradient
        travelled = config.rho * slots[1] + (1 - config.rho) * change**2
        return weights - learning_rate * change, np.stack([square, travelled])
    if config.name == "adamw" and weights.ndim >= 2:
        weights = weights - learning_rate * config.weight_decay * weights
    beta1, beta2 = config.betas
    first = beta1 * slots[0] + (1 - beta1) * gradient
    second = beta2 * slots[1] + (1 - beta2) * gradient**2
    direction = first / (1 - beta1**step)
    kept = [first, second]
    if _keeps_largest(config):
        kept.append(np.maximum(slots[2], second))
    scale = np.sqrt(kept[-1] / (1 - beta2**step)) + config.epsilon
    return weights - learning_rate * direction / scale, np.stack(kept)


def _keeps_largest(config: OptimizerConfig) -> bool:
    return config.amsgrad and config.name in ("adam", "adamw")


def averaged(decay: float, average: Array, weights: Array, step: int) -> Array:
    """Return the moving average after a step, counted from 1.

    It keeps the share `decay`, or (1 + n) / (10 + n) at step n where that is less.
    """
    share = np.float32(1 - min(decay, (1 + step) / (10 + step)))
    return average + share * (weights - average)


def clip(gradients: dict[str, Array], largest_norm: float | None) -> dict[str, Array]:
    """Return the gradients, scaled down together where their global norm is above the largest."""
    whole = norm(gradients)
    if largest_norm is None or whole <= largest_norm:
        return gradients
    return {name: g * (largest_norm / whole) for name, g in gradients.items()}


def norm(gradients: dict[str, Array]) -> float:
    """Return the norm of all gradients together."""
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients.values()))
