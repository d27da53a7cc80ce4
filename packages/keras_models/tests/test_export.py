"""Exported Keras models in their runtimes, held against the model itself."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import TrainingConfig
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import GraphForm, exporter
from terrazzo.models.runtimes import agreement
from terrazzo.testing.trainer_checks import Factory, Task
from terrazzo.workflows.export import precisions
from terrazzo_keras.backend import backend

export = exporter("keras")
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has these exporters"
)
SIZES = ((61, 97), (64, 96), (60, 98), (7, 9))
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
CONVERTED = ("onnx", "openvino", "litert")

# What opens a written file: none of what wrote it is in this process, and LiteRT ends a process
# that holds another framework.
IN_A_FRESH_PROCESS = """
import json, sys
from pathlib import Path
import numpy as np
from terrazzo.models import runtimes
from terrazzo.models.exporter import GraphForm, exporter
folder, to, form = Path(sys.argv[1]), sys.argv[2], GraphForm(**json.loads(sys.argv[3]))
if to == "keras":
    session = exporter("keras").open(to, folder, type("Card", (), {"backend": "keras"}), form)
else:
    runtime = "onnxruntime" if to == "onnx" else to
    session = runtimes.open_session(runtime, folder, form)
answers = {}
for name, images in np.load(folder / "images.npz").items():
    first = session.logits if form.output == "logits" else session.probabilities
    answers[f"scores {name}"] = first(images)
    answers[f"labels {name}"] = session.labels(images)
np.savez(folder / "answers.npz", **answers)
"""


def task_of(dtype):
    return Task(num_classes=3, num_bands=4, dtype=dtype)


@functools.cache
def trained(name, dtype):
    """Return a trainer after some steps, and its card."""
    task = task_of(dtype)
    factory = Factory.small(backend, name)
    trainer = factory.build(task, training=TrainingConfig(steps=2))
    for seed in range(2):
        trainer.train_step(task.batch(32, 32, count=2, seed=seed), 1e-2)
    return trainer, ModelCard("keras", factory.model, task.labels, task.bands, None, 2)


def require(to):
    if not importlib.util.find_spec(PACKAGES.get(to, "keras")):
        pytest.skip(f"{PACKAGES[to]} is not installed")


def written(to, name, form, folder, calibration=None):
    """Write a file; return what it gives."""
    trainer, card = trained(name, form.dtype)
    facts = export.write(to, trainer, card, form, folder, calibration)
    assert facts["keras"] == keras.__version__
    return replace(form, labels=form.labels and facts.pop("labels", True) is True)


def images_of(form, sizes=SIZES):
    bands = task_of(form.dtype).bands
    images = {}
    for number, size in enumerate(sizes):
        images[str(size)] = agreement.noise(bands, 3 if number % 2 else 1, size, number)
    return images


def answers_of(folder, to, form, images):
    np.savez(folder / "images.npz", **images)
    arguments = [folder, to, json.dumps(vars(form))]
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_FRESH_PROCESS, *arguments],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return dict(np.load(folder / "answers.npz"))


def require_agreement(to, name, form, folder):
    require(to)
    given = written(to, name, form, folder)
    images = images_of(form)
    answers = answers_of(folder, to, given, images)
    trainer, card = trained(name, form.dtype)
    for each, images_BHWC in images.items():
        scores, labels = answers[f"scores {each}"], answers[f"labels {each}"]
        if form.output == "probabilities":
            np.testing.assert_allclose(scores, trainer.predict(images_BHWC), atol=1e-5)
            continue
        found = agreement.compare(export.logits(trainer, images_BHWC), scores, labels)
        assert found.holds, (each, found)
        if given.labels:
            assert labels.dtype == card.label_map.dtype
    return given


@on_tensorflow
@pytest.mark.parametrize("to", CONVERTED)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("uint16", marks=pytest.mark.slow)])
def test_unet(to, dtype, tmp_path):
    given = require_agreement(to, "unet", GraphForm(dtype), tmp_path)
    assert given.labels == (to != "litert")


@pytest.mark.parametrize("dtype", ["float32", pytest.param("uint8", marks=pytest.mark.slow)])
def test_keras_file_of_unet(dtype, tmp_path):
    assert not require_agreement("keras", "unet", GraphForm(dtype), tmp_path).labels


@on_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("to", [*CONVERTED, "keras"])
@pytest.mark.parametrize("name", ["segformer", "deeplabv3plus", "inception_resnet_v2_unet"])
def test_every_model(name, to, tmp_path):
    require_agreement(to, name, GraphForm("uint8"), tmp_path)


@on_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("to", [*CONVERTED, "keras"])
@pytest.mark.parametrize(
    "form",
    [
        GraphForm("uint16", layout="NCHW"),
        GraphForm("float32", layout="NCHW", output="probabilities"),
        GraphForm("uint8", output="probabilities", labels=False),
    ],
)
def test_every_form(form, to, tmp_path):
    require_agreement(to, "unet", form, tmp_path)


@on_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("to", [*CONVERTED, "keras"])
def test_normalisation_outside_and_a_fixed_size(to, tmp_path):
    require(to)
    trainer, _ = trained("unet", "float32")
    form = GraphForm("float32", normalization="outside", size=(32, 48))
    given = written(to, "unet", form, tmp_path)
    images_BHWC = agreement.noise(trainer.bands, 2, (32, 48), 0)
    normalised_BHWC = (images_BHWC - np.float32(trainer.bands.mean)) / np.float32(trainer.bands.std)
    images = {"one": np.nan_to_num(normalised_BHWC, nan=0)}
    answers = answers_of(tmp_path, to, given, images)
    found = agreement.compare(
        trainer.logits(images_BHWC), answers["scores one"], answers["labels one"]
    )
    assert found.holds, found


@on_tensorflow
@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_missing_values_of_whole_numbers_come_as_nan(to, tmp_path):
    require(to)
    given = written(to, "unet", GraphForm("uint8"), tmp_path)
    trainer, _ = trained("unet", "uint8")
    image_BHWC = agreement.noise(trainer.bands, 1, (20, 30), 0).astype(np.float32)
    image_BHWC[0, 3:9, 4:8] = np.nan
    answers = answers_of(tmp_path, to, given, {"one": image_BHWC})
    found = agreement.compare(
        trainer.logits(image_BHWC), answers["scores one"], answers["labels one"]
    )
    assert found.holds, found


@on_tensorflow
def test_onnx_is_one_file_with_names_and_facts(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    trainer, card = trained("unet", "uint8")
    facts = export.write("onnx", trainer, card, GraphForm("uint8", layout="NCHW"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert {each.domain for each in model.opset_import} <= {"", "ai.onnx.ml"}
    assert facts["opset"] == 18 == model.opset_import[0].version

    def axes(values):
        return {
            value.name: [
                axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim
            ]
            for value in values
        }

    assert axes(model.graph.input) == {"image": ["batch", 4, "height", "width"]}
    assert axes(model.graph.output) == {
        "logits": ["batch", 3, "height", "width"],
        "labels": ["batch", "height", "width"],
    }
    stored = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert stored["band_mean"] == list(card.bands.mean)
    assert stored["class_names"] == list(card.label_map.names)


@on_tensorflow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_smaller_litert(precision, tmp_path):
    require("litert")
    task, form = task_of("uint8"), GraphForm("uint8", precision=precision)
    calibration = [task.batch(32, 32, count=1, seed=seed).images_BHWC for seed in range(4)]
    given = written("litert", "unet", form, tmp_path, calibration)
    plain = tmp_path / "plain"
    plain.mkdir()
    written("litert", "unet", GraphForm("uint8"), plain)
    sizes = [(each / "model.tflite").stat().st_size for each in (tmp_path, plain)]
    assert sizes[0] < 0.8 * sizes[1]
    trainer, _ = trained("unet", "uint8")
    images = {"one": task.batch(48, 40, count=2, seed=9).images_BHWC}
    answers = answers_of(tmp_path, "litert", given, images)
    found = agreement.compare(trainer.logits(images["one"]), answers["scores one"])
    assert 0 < found.error < (0.01 if precision == "float16" else 0.2), found


@on_tensorflow
def test_sizes_and_raw_values_stay_exact_in_onnx_of_float16(tmp_path):
    require("onnx")
    given = written("onnx", "unet", GraphForm("uint16"), tmp_path)
    precisions.to_float16(tmp_path / "model.onnx")
    images = images_of(given, ((61, 97), (2051, 7), (7, 9)))  # float16 has no 2051
    images["brightest"] = np.full((1, 8, 9, 4), 65535, np.uint16)  # nor this
    answers = answers_of(tmp_path, "onnx", given, images)
    trainer, _ = trained("unet", "uint16")
    spread = np.ptp(trainer.logits(images["(61, 97)"]))
    for each, images_BHWC in images.items():
        expected, scores = trainer.logits(images_BHWC), answers[f"scores {each}"]
        np.testing.assert_allclose(scores, expected, atol=0.01 * spread, err_msg=each)
    assert np.abs(answers["scores brightest"] - expected).max() > 0


@on_tensorflow
@pytest.mark.slow
def test_openvino_of_float16_has_half_the_weights(tmp_path):
    require("openvino")
    for precision in ("float32", "float16"):
        (tmp_path / precision).mkdir()
        written("openvino", "unet", GraphForm("uint8", precision=precision), tmp_path / precision)
    sizes = [(tmp_path / p / "model.bin").stat().st_size for p in ("float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_keras_file_is_trained_on(tmp_path):
    import terrazzo_keras.registered_layers  # noqa: F401

    written("keras", "unet", GraphForm("uint8"), tmp_path)
    model = keras.models.load_model(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        assert "Lambda" not in file.read("config.json").decode()
    batch = task_of("uint8").batch(33, 61, count=2)
    before = keras.ops.convert_to_numpy(model(batch.images_BHWC))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    model.fit(batch.images_BHWC, batch.labels_BHW, epochs=1, verbose=0)
    after = keras.ops.convert_to_numpy(model(batch.images_BHWC))
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-4


def test_a_model_that_computes_in_bfloat16_is_written_in_float32(tmp_path):
    task, factory = task_of("uint8"), Factory.small(backend, "unet")
    config = TrainingConfig(steps=1, precision="bfloat16")
    trainer = factory.build(task, training=config)
    card = ModelCard("keras", factory.model, task.labels, task.bands, None, 0)
    export.write("keras", trainer, card, GraphForm("uint8"), tmp_path)
    model = keras.models.load_model(tmp_path / "model.keras")
    (network,) = (layer for layer in model.layers if layer.name == "unet")
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    images_BHWC = task.batch(33, 40, count=1).images_BHWC
    found = agreement.compare(
        export.logits(trainer, images_BHWC), keras.ops.convert_to_numpy(model(images_BHWC))
    )
    assert found.holds, found


@pytest.mark.parametrize(
    ("to", "form", "told"),
    [
        ("torch", GraphForm("uint8"), "onnx, openvino, litert, keras"),
        ("keras", GraphForm("uint8", precision="float16"), "float32"),
        ("onnx", GraphForm("uint8", precision="int8"), "float32"),
    ],
)
def test_what_cannot_be_written_is_refused(to, form, told, tmp_path, monkeypatch):
    trainer, card = trained("unet", "uint8")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ConfigError, match=told) as caught:
        export.write(to, trainer, card, form, tmp_path)
    assert caught.value.code == "SEG-X080"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_other_engines_write_their_own_file_alone(engine, tmp_path, monkeypatch):
    trainer, card = trained("unet", "uint8")
    monkeypatch.setenv("KERAS_BACKEND", engine)
    for to in CONVERTED:
        with pytest.raises(ConfigError, match=f"keras on {engine}") as caught:
            export.write(to, trainer, card, GraphForm("uint8"), tmp_path)
        assert caught.value.code == "SEG-X080"
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_told_with_the_pip_line(tmp_path, monkeypatch):
    trainer, card = trained("unet", "uint8")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install") as caught:
        export.write("onnx", trainer, card, GraphForm("uint8"), tmp_path)
    assert caught.value.code == "SEG-X081"


def test_the_exporter_imports_no_framework():
    program = (
        "from terrazzo.models.exporter import exporter; import sys\n"
        "assert exporter('keras').FORMATS\n"
        "print({'keras', 'tensorflow', 'onnx', 'openvino', 'tf2onnx'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
    assert Path(export.__file__).parent.name == "export"
