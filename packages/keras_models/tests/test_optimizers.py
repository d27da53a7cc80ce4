"""`terrazzo_keras.optimizers` against the formulas in `OptimizerConfig`, the rate changing."""

import numpy as np
import pytest
from keras import ops

from terrazzo.config import OptimizerConfig
from terrazzo_keras import optimizers

RATES = (0.1, 0.03, 0.3)
DECAYED = np.array([1, 1, 0, 0], np.float32)


def hand(config, p, gradients):
    buffer = first = second = np.zeros_like(p)
    for step, (g, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        if config.name == "sgd":
            buffer = config.momentum * buffer + g
            p = p - rate * buffer
            continue
        if config.name == "adamw":
            p = p - rate * config.weight_decay * p * DECAYED
        b1, b2 = config.betas
        first = b1 * first + (1 - b1) * g
        second = b2 * second + (1 - b2) * g * g
        unbiased_1, unbiased_2 = first / (1 - b1**step), second / (1 - b2**step)
        p = p - rate * unbiased_1 / (np.sqrt(unbiased_2) + config.epsilon)
    return p


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig(name="adamw", weight_decay=0.1),
        # An epsilon of the gradient's size tells where it is added.
        OptimizerConfig(name="adam", epsilon=0.5),
        OptimizerConfig(name="adam", betas=(0.0, 0.0)),
        OptimizerConfig(name="sgd"),
        OptimizerConfig(name="sgd", momentum=0.0),
    ],
    ids=lambda config: config.name,
)
def test_steps_are_as_by_hand(config):
    generator = np.random.default_rng(0)
    start, *gradients = generator.normal(size=(4, 4))
    weights = ops.convert_to_tensor(start, "float32")
    decayed = ops.convert_to_tensor(DECAYED)
    slots = {name: ops.zeros_like(weights) for name in optimizers.slot_names(config)}
    for step, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        gradient = ops.convert_to_tensor(gradient, "float32")
        weights, slots = optimizers.update(
            config, weights, gradient, slots, ops.convert_to_tensor(step), rate, decayed
        )
    np.testing.assert_allclose(
        ops.convert_to_numpy(weights), hand(config, start, gradients), rtol=1e-5, atol=1e-6
    )


def test_clipping_changes_large_gradients_only():
    gradient, norm = ops.convert_to_tensor([3.0, 4.0]), ops.convert_to_tensor(5.0)
    small = ops.convert_to_numpy(optimizers.clipped(gradient, norm, 1.0))
    same = ops.convert_to_numpy(optimizers.clipped(gradient, norm, 10.0))
    np.testing.assert_allclose(small, [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(same, [3, 4])
