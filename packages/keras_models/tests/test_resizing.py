"""`terrazzo_keras.resizing` against the interpolation of Keras, sizes known and unknown."""

import keras
import numpy as np
import pytest

from terrazzo_keras.resizing import SpreadOver, UpsampleBilinear


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 4)])
def test_enlarging_is_bilinear_without_aligned_corners(size, factor):
    maps = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    enlarged = keras.ops.convert_to_numpy(UpsampleBilinear(factor)(maps))
    target = (factor * size[0], factor * size[1])
    expected = keras.ops.image.resize(maps, target, interpolation="bilinear")
    np.testing.assert_allclose(enlarged, keras.ops.convert_to_numpy(expected), atol=1e-6)


def test_one_pixel_is_spread_over_a_grid():
    pixel, grid = np.float32([[[[1, 2]]]]), np.full((1, 2, 3, 5), 7, np.float32)
    spread = keras.ops.convert_to_numpy(SpreadOver()([pixel, grid]))
    np.testing.assert_array_equal(spread, np.broadcast_to(pixel, (1, 2, 3, 2)))


def test_sizes_may_be_unknown_until_the_model_is_used():
    maps = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(maps)
    enlarged = UpsampleBilinear(4)(SpreadOver()([pooled, maps]))
    model = keras.Model(maps, enlarged)
    assert model.output_shape == (None, None, None, 3)
    for size in ((2, 5, 3), (1, 1, 7)):
        # `predict` is the way that compiles: under TensorFlow a graph of unknown sizes.
        result = model.predict(np.ones((*size, 3), np.float32), verbose=0)
        np.testing.assert_allclose(result, np.ones((size[0], 4 * size[1], 4 * size[2], 3)))
