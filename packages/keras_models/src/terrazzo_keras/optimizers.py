"""One optimiser step on one vector that holds all weights.

Why not `keras.optimizers`: they unroll some twenty operations for each of several hundred
variables, which costs TensorFlow a minute before the first step; their Adam adds epsilon before the
bias correction and their SGD folds the learning rate into its velocity, so the same recipe would
mean something else than in PyTorch; and they cannot leave out an update inside a graph. On one
vector each rule is a few lines.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from keras import ops

if TYPE_CHECKING:
    from terrazzo.base.recipe import OptimizerConfig

Slots = dict[str, Any]


def slot_names(config: OptimizerConfig) -> tuple[str, ...]:
    """Return the names of the vectors the optimiser keeps between steps; all begin as zeros."""
    match config.name:
        case "sgd":
            return ("momentum",)
        case "adadelta":
            return ("mean_square", "mean_square_change")
        case "adam" | "adamw":
            largest = ("largest_second_moment",) if config.amsgrad else ()
            return ("first_moment", "second_moment", *largest)


def clipped(gradient: Any, norm: Any, largest: float) -> Any:
    """Return `gradient`, scaled down where its `norm` exceeds `largest`."""
    return gradient * ops.minimum(1.0, largest / (norm + 1e-6))


def update(
    config: OptimizerConfig,
    weights: Any,
    gradient: Any,
    slots: Slots,
    step: Any,
    learning_rate: Any,
    decayed: Any,
) -> tuple[Any, Slots]:
    """Return the weights and slots after one step.

    Args:
        config: which rule, with its numbers; the formulas are in its docstrings.
        weights: float32 vector.
        gradient: of the loss, as `weights`.
        slots: the vectors named by `slot_names`.
        step: 1 for the first update.
        learning_rate: scalar, or one for each weight.
        decayed: 1 where weight decay applies, 0 elsewhere; as `weights`.
    """
    if config.name == "sgd":
        momentum = config.momentum * slots["momentum"] + gradient
        return weights - learning_rate * momentum, {"momentum": momentum}
    if config.name == "adadelta":
        return _adadelta(config, weights, gradient, slots, learning_rate)
    if config.name == "adamw":
        # Loshchilov, Hutter: Decoupled Weight Decay Regularization (arXiv:1711.05101).
        weights = weights * (1 - learning_rate * config.weight_decay * decayed)
    return _adam(config, weights, gradient, slots, step, learning_rate)


def averaged(decay: float, step: Any, average: Slots, new: Slots) -> Slots:
    """Return the exponential moving average after a step.

    The share kept is `decay`, or (1 + n) / (10 + n) at step n where that is less, so that the first
    steps do not carry the random beginning along.
    """
    step = ops.cast(step, "float32")
    share = 1 - ops.minimum(decay, (1 + step) / (10 + step))
    return {key: old + share * (new[key] - old) for key, old in average.items()}


def _adam(
    config: OptimizerConfig,
    weights: Any,
    gradient: Any,
    slots: Slots,
    step: Any,
    learning_rate: Any,
) -> tuple[Any, Slots]:
    """Kingma, Ba: Adam (arXiv:1412.6980), algorithm 1.

    AMSGrad: Reddi et al. 2018 (arXiv:1904.09237), the largest taken before the bias is corrected.
    """
    beta_1, beta_2 = config.betas
    first = beta_1 * slots["first_moment"] + (1 - beta_1) * gradient
    second = beta_2 * slots["second_moment"] + (1 - beta_2) * ops.square(gradient)
    new = {"first_moment": first, "second_moment": second}
    if config.amsgrad:
        second = ops.maximum(slots["largest_second_moment"], second)
        new["largest_second_moment"] = second
    # The scalar √(1 − β₂^t) is moved out of the root: a pass over all weights less.
    correction = ops.sqrt(_bias_correction(beta_2, step))
    step_size = learning_rate * correction / _bias_correction(beta_1, step)
    return weights - step_size * first / (ops.sqrt(second) + config.epsilon * correction), new


def _adadelta(
    config: OptimizerConfig, weights: Any, gradient: Any, slots: Slots, learning_rate: Any
) -> tuple[Any, Slots]:
    """Zeiler: ADADELTA (arXiv:1212.5701), times a learning rate."""
    rho, epsilon = config.rho, config.epsilon
    square = rho * slots["mean_square"] + (1 - rho) * ops.square(gradient)
    change = ops.sqrt((slots["mean_square_change"] + epsilon) / (square + epsilon)) * gradient
    changes = rho * slots["mean_square_change"] + (1 - rho) * ops.square(change)
    new = {"mean_square": square, "mean_square_change": changes}
    return weights - learning_rate * change, new


def _bias_correction(beta: float, step: Any) -> Any:
    """Return 1 − β^step; by expm1, as in float32 the plain form has an error of 1e-5 at 0.999."""
    if beta == 0:
        return 1.0
    return -ops.expm1(ops.cast(step, "float32") * math.log(beta))
