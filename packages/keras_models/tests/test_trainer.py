"""What the contract suite does not say: names, undone updates, odd sizes, refusals."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.recipe import LossConfig, ModelConfig, OptimizerConfig, TrainingConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands, Batch
from terrazzo.models.parameter_groups import Parts
from terrazzo_keras import trainer as trainer_module
from terrazzo_keras.backend import backend
from terrazzo_keras.dropout import Dropout

LABELS = LabelMap("abc", tuple(LabelClass(n, "#000000", (i,)) for i, n in enumerate("abc")))
MODEL = ModelConfig(name="unet", options={"width": 4, "depth": 1})


def build(*, seed=0, dtype="float32", **training):
    bands = Bands(("red", "infrared"), dtype, (100.0, 50.0), (50.0, 25.0))
    return backend.build(MODEL, TrainingConfig(steps=1, **training), LABELS, bands, seed)


def make_batch(size=(2, 8, 10), *, seed=0):
    generator = np.random.default_rng(seed)
    images_BHWC = generator.uniform(0, 200, (*size, 2)).astype(np.float32)
    labels_BHW = generator.integers(0, 3, size).astype(np.uint8)
    return Batch(images_BHWC, labels_BHW, ("",) * size[0], ("",) * size[0])


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "adadelta"])
def test_resumes_to_the_bit(optimizer):
    config = OptimizerConfig(name=optimizer)
    whole, first = build(optimizer=config), build(optimizer=config)
    for seed in range(2):
        whole.train_step(make_batch(seed=seed), 1e-2)
    first.train_step(make_batch(seed=0), 1e-2)
    second = build(optimizer=config, seed=1)
    second.load_state(first.state())
    assert_equal(second.state(), first.state())
    second.train_step(make_batch(seed=1), 1e-2)
    assert_equal(second.state(), whole.state())


def test_a_step_that_is_not_finite_is_left_out():
    trainer = build()
    trainer.train_step(make_batch(), 1e-2)
    before = trainer.state()
    bad = make_batch()
    bad.images_BHWC[0, 3, 3, 0] = np.inf
    assert not np.isfinite(trainer.train_step(bad, 1e-2).loss)
    assert_equal(trainer.state(), before)
    trainer.train_step(make_batch(), 1e-2)
    assert int(trainer.state()["optimizer/steps"]) == 2


def test_a_pixel_without_data_counts_as_the_mean():
    trainer = build()
    missing, mean = make_batch(), make_batch()
    missing.images_BHWC[0, 3, 3] = np.nan
    mean.images_BHWC[0, 3, 3] = (100, 50)
    np.testing.assert_array_equal(
        trainer.predict(missing.images_BHWC), trainer.predict(mean.images_BHWC)
    )


def test_names_do_not_depend_on_the_models_made_before():
    names = build().state().keys()
    assert names == build().state().keys()
    assert "weights/down_0_conv_0/kernel" in names
    assert "weights/down_0_norm_0/moving_variance" in names
    assert "optimizer/second_moment/logits/bias" in names


def test_weights_alone_begin_a_new_optimiser():
    trained = build()
    trained.train_step(make_batch(), 1e-2)
    weights = {n: a for n, a in trained.state().items() if n.startswith("weights/")}
    trained.load_state(weights)
    state = trained.state()
    assert {n: state[n] for n in weights}.keys() == weights.keys()
    assert int(state["optimizer/steps"]) == 0
    assert not any(a.any() for n, a in state.items() if "moment/" in n)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    trainer = build()
    before = trainer.state()
    bad = {name: array + 1 for name, array in before.items()}
    bad["weights/logits/bias"] = np.zeros(7, np.float32)
    del bad["weights/down_0_conv_0/kernel"]
    with pytest.raises(CheckpointError) as caught:
        trainer.load_state(bad)
    assert caught.value.code == "SEG-C007"
    assert "weights/down_0_conv_0/kernel: missing" in str(caught.value)
    assert "weights/logits/bias: float32(7,)" in str(caught.value)
    assert_equal(trainer.state(), before)


def test_padding_never_shifts_a_pixel():
    trainer = build()
    image = np.full((1, 13, 9, 2), 100, np.float32)
    image[0, 6:, 4:] = 150
    # What lies beyond the edge is the edge repeated, so adding it by hand changes nothing.
    padded = np.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    np.testing.assert_allclose(
        trainer.predict(image), trainer.predict(padded)[:, :13, :9], atol=1e-6
    )


def test_labels_are_the_most_probable_class_in_the_maps_type():
    trainer = build()
    images_BHWC = make_batch().images_BHWC
    labels_BHW = trainer.predict_labels(images_BHWC)
    assert labels_BHW.dtype == LABELS.dtype
    np.testing.assert_array_equal(labels_BHW, trainer.predict(images_BHWC).argmax(-1))


def test_a_short_last_batch_and_another_size_are_not_traced_again():
    trainer = build()
    for size in ((2, 8, 10), (1, 8, 10), (2, 6, 7)):
        trainer.train_step(make_batch(size), 1e-2)
    assert len(trainer._compiled) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_mean_the_same_as_floats(dtype):
    images_BHWC = make_batch().images_BHWC.round()
    np.testing.assert_array_equal(
        build(dtype=dtype).predict(images_BHWC.astype(dtype)), build().predict(images_BHWC)
    )


def test_refusals(monkeypatch):
    bands = Bands(("red",), "uint8", (0.0,), (1.0,))
    training = TrainingConfig(steps=1)
    with pytest.raises(ConfigError, match=", ".join(backend.models())):
        backend.build(ModelConfig(name="unnet"), training, LABELS, bands, 0)
    with pytest.raises(ConfigError, match="depth, up, width"):
        backend.build(ModelConfig(name="unet", options={"widht": 3}), training, LABELS, bands, 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        backend.build(MODEL, training, LABELS, bands, 0)


def test_listing_models_imports_no_framework():
    code = (
        "import sys; from terrazzo_keras.backend import backend; print(*backend.models());"
        "assert not {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(backend.models())


def test_bilinear_unet_takes_any_size():
    model = ModelConfig(name="unet", options={"width": 4, "depth": 1, "up": "bilinear"})
    bands = Bands(("red", "infrared"), "float32", (100.0, 50.0), (50.0, 25.0))
    trainer = backend.build(model, TrainingConfig(steps=1), LABELS, bands, 0)
    for size in ((2, 8, 10), (1, 5, 7)):
        assert np.isfinite(trainer.train_step(make_batch(size), 1e-2).loss)


ALL_TERMS = LossConfig(
    cross_entropy=0.2, dice=0.1, soft_iou=0.3, focal=0.4, lovasz=0.5, class_weights=(1, 3, 2)
)


def convolution(options, num_bands, num_classes):
    """A network without batch norm."""
    images = keras.Input((None, None, num_bands))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="down")(images)
    x = keras.layers.Conv2D(num_classes, 1, name="logits")(x)
    return keras.Model(images, x)


def build_convolution(**training):
    bands = Bands(("red", "infrared"), "float32", (100.0, 50.0), (50.0, 25.0))
    parts = Parts(("down/",), ("logits/",))
    settings = TrainingConfig(steps=1, **training)
    return trainer_module.build(convolution, None, parts, settings, LABELS, bands, 0)


@pytest.mark.parametrize("loss", [LossConfig(), ALL_TERMS])
@pytest.mark.parametrize("parts", [2, 3, 9])
def test_accumulated_update_is_that_of_the_whole_batch(loss, parts):
    whole, accumulated = (
        build_convolution(
            loss=loss, accumulate=n, optimizer=OptimizerConfig(name="sgd"), clip_norm=0.05
        )
        for n in (1, parts)
    )
    for seed in range(2):
        batch = make_batch((4, 8, 10), seed=seed)
        batch.labels_BHW[0, :5] = LABELS.ignore_index
        losses = [trainer.train_step(batch, 0.1).loss for trainer in (whole, accumulated)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    expected, state = whole.state(), accumulated.state()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, atol=1e-6, err_msg=name)


def test_learning_rate_of_the_encoder_is_a_multiple():
    plain, slow = (
        build_convolution(optimizer=OptimizerConfig(name="sgd"), encoder_lr_factor=factor)
        for factor in (1.0, 0.25)
    )
    before = plain.state()
    for trainer in (plain, slow):
        trainer.train_step(make_batch(), 0.1)
    for name, factor in (("weights/down/kernel", 0.25), ("weights/logits/kernel", 1)):
        full, slowed = (trainer.state()[name] - before[name] for trainer in (plain, slow))
        assert np.abs(full).max() > 1e-4
        np.testing.assert_allclose(slowed, factor * full, atol=1e-6)


@pytest.mark.slow
def test_compiled_network_learns_the_same():
    plain, compiled = (build_convolution(compile=wanted) for wanted in (False, True))
    for trainer in (plain, compiled):
        trainer.train_step(make_batch(), 0.1)
    expected, state = plain.state(), compiled.state()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, atol=1e-4, err_msg=name)


def test_dropout_leaves_the_mean_and_repeats_itself():
    maps = np.ones((8, 50, 50, 4), np.float32)
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        layer = Dropout(0.3, name="dropout")
        results.append(keras.ops.convert_to_numpy(layer(maps, training=True)))
    np.testing.assert_array_equal(*results)
    assert (results[0] == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert results[0].max() == pytest.approx(1 / 0.7)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(maps, training=False)), maps)
