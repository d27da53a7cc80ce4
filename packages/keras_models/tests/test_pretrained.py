"""Weights of `keras.applications`, from files in the format and under the names it publishes."""

import os
import subprocess
import sys
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.sample import Bands
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.testing import audit
from terrazzo.testing.trainer_checks import TWO_COLOURS
from terrazzo_keras import pretrained
from terrazzo_keras.backend import backend
from terrazzo_keras.models import deeplabv3plus, inception_resnet_v2_unet

MODELS = {
    "mobilenet_v2": (deeplabv3plus, {"encoder": "mobilenet_v2", "width": 4}),
    "resnet50": (deeplabv3plus, {"encoder": "resnet50", "width": 4}),
    "inception_resnet_v2": (
        inception_resnet_v2_unet,
        {"decoder_filters": (4, 4, 4, 4)},
    ),
}
APPLICATIONS = {
    "mobilenet_v2": keras.applications.MobileNetV2,
    "resnet50": keras.applications.ResNet50,
    "inception_resnet_v2": keras.applications.InceptionResNetV2,
}
NAMES = ["mobilenet_v2", "resnet50", pytest.param("inception_resnet_v2", marks=pytest.mark.slow)]


def write(network, path):
    """Write weights as the published files have them: a group a layer, in order."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.1.0"
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = ops.convert_to_numpy(weight)


def published(name):
    """Return an encoder as keras.applications makes it, batch statistics unlike new ones."""
    keras.utils.set_random_seed(1)
    network = APPLICATIONS[name](include_top=False, weights=None, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    return network


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An encoder and the file of its weights, by name; made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            path = tmp_path_factory.mktemp("weights") / f"{name}_notop.h5"
            network = published(name)
            write(network, path)
            made[name] = network, path
        return made[name]

    return get


def build(name, path, num_bands):
    file, options = MODELS[name]
    return file.build(file.Options(**options, pretrained=str(path)), num_bands, 2)


def first_convolution(network):
    """Return the convolution that sees the bands."""
    return next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D))


def encoder_layers(network):
    """Return the layers with weights of the encoder, in order, whatever their numbers are."""
    decoder = ("up_", "logits", "pyramid_", "decoder_")
    return [x for x in network.layers if x.weights and not x.name.startswith(decoder)]


def maps(network, layer, images):
    part = keras.Model(network.inputs[0], layer.output)
    return ops.convert_to_numpy(part(images, training=False))


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_computes_what_the_published_one_does(files, name):
    reference, path = files(name)
    network = build(name, path, 3)
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    # Images of 8 bits, normalised with the standard deviations of ImageNet and the mean that the
    # published encoder was trained with.
    unit = 255 * np.float32([0.229, 0.224, 0.225])
    mean = np.float32([123.68, 116.779, 103.939] if name == "resnet50" else 127.5)
    inputs = (images - mean) / unit
    if name == "inception_resnet_v2":
        # Our encoder sees the image padded; so the published one is shown it padded.
        padded = ops.convert_to_numpy(network.get_layer("pad")(images))
        shown = keras.applications.inception_resnet_v2.preprocess_input(padded)
        ours, theirs = (
            [x for x in each.layers if isinstance(x, keras.layers.Activation)][161]
            for each in (network, reference)
        )
    elif name == "resnet50":
        shown = keras.applications.resnet50.preprocess_input(images.copy())
        ours, theirs = (each.get_layer("conv4_block6_out") for each in (network, reference))
    else:
        shown = keras.applications.mobilenet_v2.preprocess_input(images.copy())
        ours, theirs = (each.get_layer("block_12_add") for each in (network, reference))
    expected, found = maps(reference, theirs, shown), maps(network, ours, inputs)
    assert np.ptp(expected) > 1e-3, "the same everywhere: nothing to see"
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    assert network.remarks[0] == f"weights of the encoder: {path}"
    assert len(network.remarks) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_bands", [1, 5])
def test_other_bands_answer_a_grey_image_as_before(files, name, num_bands):
    _, path = files(name)
    network, of_three = (build(name, path, bands) for bands in (num_bands, 3))
    pairs = list(zip(encoder_layers(network), encoder_layers(of_three), strict=True))
    assert pairs[0][0] is first_convolution(network)
    grey = np.random.default_rng(0).normal(size=(1, 9, 9, 1)).astype(np.float32)
    found, expected = (
        ops.convert_to_numpy(layer(np.repeat(grey, bands, axis=-1)))
        for layer, bands in zip(pairs[0], (num_bands, 3), strict=True)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    for ours, theirs in pairs[1:]:
        for own, given in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(own, given, err_msg=ours.name)
    assert f"{num_bands} here; each band has the mean" in network.remarks[-1]


def test_names_are_those_of_random_weights(files):
    _, path = files("mobilenet_v2")
    file, options = MODELS["mobilenet_v2"]
    random = file.build(file.Options(**options), 4, 2)
    names = [layer.name for layer in build("mobilenet_v2", path, 4).layers]
    assert names == [layer.name for layer in random.layers]
    assert random.remarks == ()


def test_inflating_three_bands_to_six_halves_their_mean():
    kernels = np.float32([[[[1, 10], [2, 20], [6, 60]]]])
    expected = np.repeat(np.float32([[[[1.5, 15]]]]), 6, axis=2)
    np.testing.assert_array_equal(pretrained.inflate(kernels, 6), expected)


def test_files_that_do_not_fit_are_refused(files, tmp_path):
    _, of_another = files("resnet50")
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(of_another.read_bytes()[:1000])
    whole_model = tmp_path / "model.keras"
    whole_model.write_bytes(b"anything")
    for path, code, told in (
        (of_another, "SEG-C020", "MobileNetV2 without its top"),
        (damaged, "SEG-C006", str(damaged)),
        (whole_model, "SEG-C006", ".h5, .hdf5"),
        (tmp_path, "SEG-C006", "a folder"),
    ):
        with pytest.raises(CheckpointError) as caught:
            build("mobilenet_v2", path, 3)
        assert caught.value.code == code
        assert told in str(caught.value)


def test_four_bands_in_the_file_are_refused(tmp_path):
    images = keras.Input((None, None, 4))
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_tensor=images)
    write(network, tmp_path / "four.h5")
    with pytest.raises(CheckpointError, match="SEG-C020") as caught:
        build("mobilenet_v2", tmp_path / "four.h5", 4)
    assert "Conv1" in str(caught.value)
    assert "(3, 3, 4, 32)" in str(caught.value)


@pytest.mark.parametrize("word", ["full", "encodr"])
def test_words_that_are_none_list_the_choices(word):
    with pytest.raises(ConfigError, match="SEG-X020") as caught:
        build("mobilenet_v2", word, 3)
    assert '"encoder"' in str(caught.value)


WITHOUT_NETWORK = """
from terrazzo.base.errors import ResourceError
from terrazzo_keras.models import deeplabv3plus
try:
    deeplabv3plus.build(deeplabv3plus.Options(encoder="mobilenet_v2", pretrained="encoder"), 3, 2)
except ResourceError as error:
    print(error)
"""


def test_without_a_network_the_error_says_what_to_get_and_where_to_put_it(tmp_path):
    # A proxy that nobody listens at: no request leaves this machine, whatever its network.
    nowhere = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path), "no_proxy": ""}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    for told in ("SEG-R020", f"/mobilenet_v2/{file}", f"models/{file}", "KERAS_HOME"):
        assert told in done.stdout
    assert done.stdout.count("https://storage.googleapis.com/") >= 2
    assert not list(tmp_path.rglob("*.h5"))


def test_loading_a_trained_model_does_nothing_else(tmp_path):
    model = ModelConfig(name="unet", options={"width": 8, "depth": 2})
    bands, labels = TWO_COLOURS.bands, TWO_COLOURS.labels
    trainer = backend.build(model, TrainingConfig(steps=1), labels, bands, 0)
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    saved_model.write(
        tmp_path / "model", ModelCard("keras", model, labels, bands, None, 1), weights
    )
    images_BHWC = TWO_COLOURS.batch(16, 16).images_BHWC
    with audit.refused(tmp_path / "model") as seen:
        _, loaded = saved_model.load(tmp_path / "model")
        loaded.predict(images_BHWC)
    assert seen == []


def test_reading_pretrained_weights_does_nothing_else(files):
    _, path = files("mobilenet_v2")
    with audit.refused(path.parent) as seen:
        build("mobilenet_v2", path, 3)
    assert seen == []


@pytest.mark.parametrize(
    ("name", "border"),
    [
        ("mobilenet_v2", 2),
        ("resnet50", 4),
        pytest.param("inception_resnet_v2", 0, marks=pytest.mark.slow),
    ],
)
def test_raw_images_are_answered_as_with_the_statistics_of_the_weights(files, name, border):
    _, path = files(name)
    file, options = MODELS[name]
    config = ModelConfig(
        name=file.__name__.rpartition(".")[2], options={**options, "pretrained": str(path)}
    )
    own = backend.input_statistics(config)
    others = Bands(("red", "green", "blue"), "uint8", (90.0, 140.0, 60.0), (30.0, 80.0, 51.0))
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype(np.float32)

    def first_answer(bands):
        training = TrainingConfig(steps=1)
        trainer = backend.build(config, training, TWO_COLOURS.labels, bands, seed=0)
        layers = trainer.network.layers
        number = layers.index(first_convolution(trainer.network))
        layer = next(x for x in layers[number:] if isinstance(x, keras.layers.BatchNormalization))
        normalised = (images - np.float32(bands.mean)) / np.float32(bands.std)
        return maps(trainer.network, layer, normalised), trainer.remarks

    expected, quiet = first_answer(replace(others, mean=own.mean, std=own.std))
    found, remarks = first_answer(others)
    inside = (0, *[slice(border, -border or None)] * 2)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5 * scale)
    assert "deviation 30, 80, 51 of this run" in remarks[-1]
    assert len(remarks) == len(quiet) + 1
