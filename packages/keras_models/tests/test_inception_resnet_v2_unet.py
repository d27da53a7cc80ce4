"""The maps of InceptionResNetV2 lie where the decoder takes them to be."""

import keras
import numpy as np
import pytest
from keras import layers

from terrazzo_keras.models import inception_resnet_v2_unet as model_file
from terrazzo_keras.padding import CropTo, PadToMultiple

pytestmark = pytest.mark.slow  # building the encoder alone takes ten seconds


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return model_file.build(model_file.SMALL, 4, 3)


def places(network):
    """Middle of cell 0 and step between cells, in pixels, of each layer's output by its name.

    Followed through the layers as they are, not through the table in the model's docstring.
    """
    of_tensor, of_layer = {}, {}
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            middle, step = 0.0, 1
        else:
            found = [of_tensor[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
            decoder = layer.name.startswith("up_") or isinstance(layer, CropTo)
            assert decoder or len(set(found)) == 1, f"{layer.name} mixes maps that lie apart"
            middle, step = moved(layer, *found[0])
        of_tensor[id(layer.output)] = of_layer[layer.name] = (middle, step)
    return of_layer


def moved(layer, middle, step):
    if isinstance(layer, PadToMultiple):
        return middle - layer.before, step
    if isinstance(layer, CropTo):
        return middle + layer.start * step, step
    if isinstance(layer, layers.Conv2DTranspose):
        return middle - step / 4, step // 2
    if isinstance(layer, layers.Conv2D):
        size = layer.kernel_size[0]
    elif isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        size = layer.pool_size[0]
    else:
        return middle, step
    if layer.padding == "same":
        assert layer.strides == (1, 1)
        return middle, step
    return middle + (size - 1) / 2 * step, step * layer.strides[0]


def test_each_map_lies_within_a_quarter_of_its_stride_of_its_grid(network):
    of_layer = places(network)
    bridge = of_layer[network.get_layer("up_3_transpose").input._keras_history.operation.name]
    used = {"bridge": bridge} | {f"up_{n}": of_layer[f"up_{n}_crop"] for n in (3, 2, 1, 0)}
    assert {name: step for name, (_, step) in used.items()} == {
        "bridge": 16,
        "up_3": 8,
        "up_2": 4,
        "up_1": 2,
        "up_0": 1,
    }
    off = {name: middle - (step - 1) / 2 for name, (middle, step) in used.items()}
    assert off == {"bridge": 2.5, "up_3": -1.5, "up_2": 0.5, "up_1": -0.5, "up_0": 0}


@pytest.mark.parametrize("size", [(1, 16, 16), (2, 37, 50)])
def test_any_size(network, size):
    assert network(np.zeros((*size, 4), np.float32)).shape == (*size, 3)


def test_a_shift_by_the_coarsest_stride_shifts_the_logits(network):
    image = np.random.default_rng(0).normal(size=(1, 1200, 32, 4)).astype(np.float32)
    whole = keras.ops.convert_to_numpy(network(image, training=False))
    shifted = keras.ops.convert_to_numpy(network(image[:, 32:], training=False))
    middle = slice(560, 640)
    np.testing.assert_allclose(
        shifted[:, middle], whole[:, 32:][:, middle], atol=1e-4 * np.ptp(whole[:, middle])
    )
