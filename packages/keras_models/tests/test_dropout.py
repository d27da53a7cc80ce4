"""What `terrazzo_keras.dropout` drops, on every engine."""

import keras
import numpy as np
import pytest
from keras import ops

from terrazzo_keras.dropout import Dropout

ONES = np.ones((64, 8, 8, 4), np.float32)


def dropped(layer, *, training=True):
    return ops.convert_to_numpy(layer(ONES, training=training))


def test_a_share_of_the_values_is_dropped_and_the_others_make_up_for_it():
    maps = dropped(Dropout(0.2, name="dropout"))
    np.testing.assert_allclose(np.unique(maps), [0, 1.25])
    assert (maps == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert 0 < (maps[0] == 0).mean() < 1


def test_whole_images_are_dropped():
    maps = dropped(Dropout(0.5, whole_images=True, name="dropout")).reshape(len(ONES), -1)
    assert (maps == maps[:, :1]).all()
    assert set(np.unique(maps)) == {0, 2}


@pytest.mark.parametrize("rate", [0, 0.5, 1])
def test_nothing_is_dropped_at_inference(rate):
    np.testing.assert_array_equal(dropped(Dropout(rate, name="dropout"), training=False), ONES)


def test_rates_of_none_and_all():
    np.testing.assert_array_equal(dropped(Dropout(0, name="dropout")), ONES)
    np.testing.assert_array_equal(dropped(Dropout(1, name="dropout")), 0 * ONES)


def test_its_own_seed_decides_what_is_dropped():
    layer = Dropout(0.5, name="dropout")
    (seed,) = layer.variables
    before = ops.convert_to_numpy(seed.value)
    first, second = dropped(layer), dropped(layer)
    assert not np.array_equal(first, second)
    seed.assign(before)
    keras.utils.set_random_seed(9)  # of the process: means nothing here
    np.testing.assert_array_equal(dropped(layer), first)


def test_nothing_is_dropped_in_a_frozen_part():
    layer = Dropout(0.5, name="dropout")
    layer.trainable = False
    np.testing.assert_array_equal(dropped(layer), ONES)
