"""`terrazzo_keras.optimizers` against the NumPy reference, the rate changing."""

import numpy as np
import pytest
from keras import ops

from terrazzo.base.recipe import OptimizerConfig
from terrazzo.testing.reference import optimizers as reference
from terrazzo_keras import optimizers

RATES = (0.1, 0.03, 0.3)
CONFIGS = (
    OptimizerConfig(name="adamw", weight_decay=0.1),
    OptimizerConfig(name="adamw", amsgrad=True, betas=(0.5, 0.5)),
    # An epsilon of the gradient's size tells where it is added.
    OptimizerConfig(name="adam", epsilon=0.5),
    OptimizerConfig(name="adam", betas=(0.0, 0.0)),
    OptimizerConfig(name="sgd"),
    OptimizerConfig(name="sgd", momentum=0.0),
    OptimizerConfig(name="adadelta", epsilon=1e-3),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_steps_agree_with_the_reference(config):
    """On a vector of a kernel (2×1, decayed by AdamW) and a bias of two."""
    draw = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    start, *gradients = draw
    arrays = {"kernel": start[:2, None], "bias": start[2:]}
    kept = {name: reference.empty_slots(config, array) for name, array in arrays.items()}
    weights = ops.convert_to_tensor(start)
    decayed = ops.convert_to_tensor(np.array([1, 1, 0, 0], np.float32))
    slots = {name: ops.zeros_like(weights) for name in optimizers.slot_names(config)}
    for step, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        weights, slots = optimizers.update(
            config,
            weights,
            ops.convert_to_tensor(gradient),
            slots,
            ops.convert_to_tensor(step),
            rate,
            decayed,
        )
        for name, part in (("kernel", gradient[:2, None]), ("bias", gradient[2:])):
            arrays[name], kept[name] = reference.update(
                config, arrays[name], part, kept[name], step, rate
            )
    expected = np.concatenate([arrays["kernel"].ravel(), arrays["bias"]])
    np.testing.assert_allclose(ops.convert_to_numpy(weights), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [1, 50])
def test_average_agrees_with_the_reference(step):
    average, new = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    result = optimizers.averaged(
        0.7, ops.convert_to_tensor(step), {"weights": average}, {"weights": new}
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(result["weights"]),
        reference.averaged(0.7, average, new, step),
        rtol=1e-6,
    )


def test_clipping_changes_large_gradients_only():
    gradient, norm = ops.convert_to_tensor([3.0, 4.0]), ops.convert_to_tensor(5.0)
    small = ops.convert_to_numpy(optimizers.clipped(gradient, norm, 1.0))
    same = ops.convert_to_numpy(optimizers.clipped(gradient, norm, 10.0))
    np.testing.assert_allclose(small, [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(same, [3, 4])
