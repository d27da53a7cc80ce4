"""What `terrazzo_keras.normalization` does, the single value above all, on every engine."""

import importlib

import keras
import numpy as np
import pytest
from keras import ops

from terrazzo_keras.normalization import BatchNormalization

RUNNING = {"moving_mean": [0.5, -1.0, 2.0], "moving_variance": [4.0, 0.25, 1.0]}
SCALE, OFFSET = np.array([2.0, 0.5, -1.0], np.float32), np.array([0.1, 0.2, 0.3], np.float32)
VALUE = np.array([3.0, -2.0, 0.5], np.float32)
ENGINE = importlib.import_module(f"terrazzo_keras.engines.{keras.backend.backend()}")


def made():
    layer = BatchNormalization(momentum=0.9, epsilon=1e-3, name="norm")
    layer.build((None, None, None, 3))
    for name, numbers in RUNNING.items():
        getattr(layer, name).assign(np.array(numbers, np.float32))
    layer.gamma.assign(SCALE)
    layer.beta.assign(OFFSET)
    return layer


def trained(layer, maps_BHWC):
    """Return outputs, new statistics and the slopes of a weighted sum of the outputs.

    By a function compiled for any size, as the trainer does; the slopes are those of the values,
    the scale and the offset.
    """
    weights_BHWC = np.random.default_rng(1).normal(size=maps_BHWC.shape).astype(np.float32)
    statistics = [v.value for v in layer.non_trainable_variables]
    vector = np.concatenate([maps_BHWC.ravel(), SCALE, OFFSET])

    def step(vector, template_BHWC, weights_BHWC, statistics):
        def weighted_sum(vector):
            maps_BHWC = ops.reshape(vector[:-6], ops.shape(template_BHWC))
            outputs, moved = layer.stateless_call(
                [ops.reshape(part, (3,)) for part in (vector[-6:-3], vector[-3:])],
                statistics,
                maps_BHWC,
                training=True,
            )
            return ops.sum(outputs * weights_BHWC), (outputs, moved)

        (_, (outputs, moved)), slope = ENGINE.value_and_grad(weighted_sum, vector)
        return outputs, moved, slope

    anything = keras.KerasTensor((None, None, None, 3))
    specs = (keras.KerasTensor((None,)), anything, anything, [keras.KerasTensor((3,))] * 2)
    compiled = ENGINE.compiled(step, specs, False)
    arrays = map(ops.convert_to_tensor, (vector, maps_BHWC, weights_BHWC))
    outputs, moved, slope = compiled(*arrays, statistics)
    moved, slope = [ops.convert_to_numpy(v) for v in moved], ops.convert_to_numpy(slope)
    slopes = (slope[:-6].reshape(maps_BHWC.shape), slope[-6:-3], slope[-3:])
    return ops.convert_to_numpy(outputs), moved, slopes, weights_BHWC


def test_a_single_value_is_normalised_as_at_inference():
    layer = made()
    value_1111C = VALUE.reshape(1, 1, 1, 3)
    inference = ops.convert_to_numpy(layer(value_1111C, training=False))
    outputs, moved, slopes, weights = trained(layer, value_1111C)
    np.testing.assert_allclose(outputs, inference, rtol=1e-6)
    for statistics, numbers in zip(moved, RUNNING.values(), strict=True):
        np.testing.assert_array_equal(statistics, np.array(numbers, np.float32))
    inverse_C = 1 / np.sqrt(np.array(RUNNING["moving_variance"]) + 1e-3)
    centred_C = VALUE - RUNNING["moving_mean"]
    np.testing.assert_allclose(slopes[0], weights * SCALE * inverse_C, rtol=1e-5)
    np.testing.assert_allclose(slopes[1], weights.ravel() * centred_C * inverse_C, rtol=1e-5)
    np.testing.assert_allclose(slopes[2], weights.ravel(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 2, 1, 3), (1, 1, 2, 3), (2, 3, 4, 3)])
def test_several_values_are_normalised_by_their_own_statistics(shape):
    maps_BHWC = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    outputs, moved, slopes, weights = trained(made(), maps_BHWC)
    mean_C = maps_BHWC.mean(axis=(0, 1, 2))
    variance_C = maps_BHWC.var(axis=(0, 1, 2))
    normalised_BHWC = (maps_BHWC - mean_C) / np.sqrt(variance_C + 1e-3)
    np.testing.assert_allclose(outputs, normalised_BHWC * SCALE + OFFSET, rtol=1e-4, atol=1e-5)
    unbiased_C = maps_BHWC.reshape(-1, 3).var(axis=0, ddof=1)
    for statistics, old, new in zip(moved, RUNNING.values(), (mean_C, unbiased_C), strict=True):
        np.testing.assert_allclose(statistics, 0.9 * np.array(old) + 0.1 * new, rtol=1e-5)
    np.testing.assert_allclose(
        slopes[1], (weights * normalised_BHWC).sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5
    )
    # What all values have in common makes no difference.
    slope_BHWC = slopes[0] / np.abs(slopes[0]).max()
    np.testing.assert_allclose(slope_BHWC.sum(axis=(0, 1, 2)), 0, atol=1e-4)
