"""The dilated encoders answer as the published ones do; the pooled branch takes one image."""

import keras
import numpy as np
import pytest
from keras import ops

from terrazzo_keras.models import deeplabv3plus
from terrazzo_keras.normalization import BatchNormalization


@pytest.mark.parametrize(
    ("encoder", "application", "first"),
    # A strided 3×3 kernel of MobileNetV2 begins with pixel 0, so its middle is pixel 1.
    [
        ("resnet50", keras.applications.ResNet50, 0),
        ("mobilenet_v2", keras.applications.MobileNetV2, 1),
    ],
)
def test_every_second_cell_of_the_dilated_stage_is_a_cell_of_the_strided_one(
    encoder, application, first
):
    keras.utils.set_random_seed(0)
    network = deeplabv3plus.build(deeplabv3plus.Options(encoder=encoder, width=4), 3, 2)
    published = application(include_top=False, weights=None, input_shape=(None, None, 3))
    for layer in published.layers:
        if layer.weights and not layer.name.startswith("Conv_1"):
            layer.set_weights(network.get_layer(layer.name).get_weights())
    names = deeplabv3plus._ENCODERS[encoder]
    images = np.random.default_rng(0).normal(size=(1, 96, 128, 3)).astype(np.float32)

    def features(model, name):
        part = keras.Model(model.inputs[0], model.get_layer(name).output)
        return ops.convert_to_numpy(part(images, training=False))

    np.testing.assert_allclose(
        features(network, names.fine), features(published, names.fine), rtol=1e-5, atol=1e-5
    )
    dilated, strided = features(network, names.coarse), features(published, names.coarse)
    assert dilated.shape[1:3] == (6, 8)
    assert strided.shape[1:3] == (3, 4)
    tolerance = 1e-5 * np.abs(strided).max()
    assert tolerance > 0
    np.testing.assert_allclose(dilated[:, first::2, first::2], strided, atol=tolerance)


@pytest.mark.parametrize("size", [(1, 16, 16), (2, 37, 50)])
def test_any_size(size):
    network = deeplabv3plus.build(deeplabv3plus.SMALL, 4, 3)
    assert network(np.zeros((*size, 4), np.float32)).shape == (*size, 3)


def test_one_value_is_normalised_with_the_running_statistics():
    norm = BatchNormalization()
    normal_BHWC = np.random.default_rng(0).normal(size=(2, 1, 1, 3)).astype(np.float32)
    norm(normal_BHWC, training=True)
    kept = norm.get_weights()
    alone = ops.convert_to_numpy(norm(normal_BHWC[:1], training=True))
    np.testing.assert_array_equal(
        alone, ops.convert_to_numpy(norm(normal_BHWC[:1], training=False))
    )
    for before, after in zip(kept, norm.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    norm(normal_BHWC, training=True)
    assert not np.array_equal(norm.get_weights()[2], kept[2])
