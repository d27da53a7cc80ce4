"""`KerasTrainer.network`: the user's own Keras model, which saves, loads, trains and is copied."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from terrazzo.base.recipe import TrainingConfig
from terrazzo.inference.model import Model
from terrazzo.models.card import ModelCard
from terrazzo.testing.trainer_checks import Factory, Task
from terrazzo_keras.backend import backend

QUICK = "unet"
MODELS = [
    pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow])
    for name in backend.models()
]
TASK = Task(num_classes=3, num_bands=4, dtype="float32")

IN_A_FRESH_PROCESS = """
import sys
import keras
import numpy as np
import terrazzo_keras.registered_layers

folder, compiler = sys.argv[1:]
arrays = np.load(f"{folder}/arrays.npz")
images, labels = arrays["images"], arrays["labels"]
network = keras.models.load_model(f"{folder}/network.keras")

def of(model):
    return keras.ops.convert_to_numpy(model(images, training=False))

np.testing.assert_allclose(of(network), arrays["logits"], rtol=1e-5, atol=1e-5)
lines = []
network.summary(print_fn=lambda line, **_: lines.append(line))
assert "logits" in "".join(lines)
copy = keras.models.clone_model(network)
copy.set_weights(network.get_weights())
np.testing.assert_allclose(of(copy), arrays["logits"], rtol=1e-5, atol=1e-5)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
network.compile("sgd", loss, jit_compile=compiler == "xla" and "auto")
kept = keras.callbacks.ModelCheckpoint(f"{folder}/kept.keras", monitor="loss")
history = network.fit(images, labels, batch_size=2, epochs=1, verbose=0, callbacks=[kept])
assert np.isfinite(history.history["loss"][0])
assert not np.allclose(of(network), arrays["logits"], rtol=1e-5, atol=1e-5)
again = keras.models.load_model(f"{folder}/kept.keras")
np.testing.assert_allclose(of(again), of(network), rtol=1e-5, atol=1e-5)
"""


def trained(name, **training):
    """Return a trainer after a step, and the images it may see."""
    factory = Factory.small(backend, name)
    config = TrainingConfig(steps=1, **training)
    trainer = factory.build(TASK, training=config)
    trainer.train_step(TASK.batch(32, 32, count=2), 1e-2)
    return trainer, TASK.batch(33, 61, count=2)


def normalised(images_BHWC):
    standard = (images_BHWC - np.float32(TASK.bands.mean)) / np.float32(TASK.bands.std)
    return np.nan_to_num(standard).astype(np.float32)


def model_of(trainer, name):
    factory = Factory.small(backend, name)
    return Model(ModelCard("keras", factory.model, TASK.labels, TASK.bands, None, 1), trainer)


@pytest.mark.parametrize("name", MODELS)
def test_saves_and_loads_in_a_fresh_process(name, tmp_path):
    trainer, batch = trained(name)
    network = model_of(trainer, name).network
    images_BHWC = normalised(batch.images_BHWC)
    logits_BHWK = keras.ops.convert_to_numpy(network(images_BHWC, training=False))
    probabilities_BHWK = keras.ops.convert_to_numpy(keras.ops.softmax(logits_BHWK))
    np.testing.assert_allclose(
        probabilities_BHWK[0],
        model_of(trainer, name).predict_probabilities(batch.images_BHWC[0]),
        atol=1e-5,
    )
    network.save(tmp_path / "network.keras")
    np.savez(
        tmp_path / "arrays.npz", images=images_BHWC, labels=batch.labels_BHW, logits=logits_BHWK
    )
    answer = subprocess.run(
        # XLA, Keras's own choice, takes two minutes for the large ones.
        [sys.executable, "-c", IN_A_FRESH_PROCESS, tmp_path, "xla" if name == QUICK else "none"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]


def test_has_the_weights_of_the_last_step_and_changes_nothing_itself():
    trainer, batch = trained("unet")
    model, image_HWC = model_of(trainer, "unet"), batch.images_BHWC[0]

    def of_network():
        logits = model.network(normalised(image_HWC[None]), training=False)
        return keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]

    first_HWK = model.predict_probabilities(image_HWC)
    np.testing.assert_allclose(of_network(), first_HWK, atol=1e-5)
    # What the user does to it is the user's.
    network = model.network
    network.trainable = False
    network.set_weights([array * 0 for array in network.get_weights()])
    assert model.network is network
    assert not network.get_weights()[0].any()
    np.testing.assert_array_equal(model.predict_probabilities(image_HWC), first_HWK)
    network.trainable = True
    trainer.train_step(TASK.batch(32, 32, count=2), 1e-1)
    assert np.abs(model.predict_probabilities(image_HWC) - first_HWK).max() > 1e-3
    np.testing.assert_allclose(of_network(), model.predict_probabilities(image_HWC), atol=1e-5)
    other, _ = trained("unet", loss={"dice": 1.0})
    trainer.load_state(other.state())
    np.testing.assert_allclose(of_network(), model.predict_probabilities(image_HWC), atol=1e-5)


def test_has_the_averaged_weights_where_they_are_what_predicts():
    trainer, batch = trained("unet", ema=0.9)
    for seed in range(3):
        trainer.train_step(TASK.batch(32, 32, count=2, seed=seed), 1e-1)
    image_HWC = batch.images_BHWC[0]
    logits = trainer.network(normalised(image_HWC[None]), training=False)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0],
        trainer.predict(image_HWC[None])[0],
        atol=1e-5,
    )


def test_saves_and_loads_with_layers_that_were_not_trained(tmp_path):
    trainer, batch = trained("unet", train_part="decoder")
    network = trainer.network
    assert not network.get_layer("down_0_conv_0").trainable
    assert network.get_layer("logits").trainable
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    images_BHWC = normalised(batch.images_BHWC)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(again(images_BHWC, training=False)),
        keras.ops.convert_to_numpy(network(images_BHWC, training=False)),
        rtol=1e-5,
        atol=1e-5,
    )
    assert not again.get_layer("down_0_conv_0").trainable
