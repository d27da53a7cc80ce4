"""Every model in every format gives what the trainer gives, at every size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from terrazzo.base.errors import ConfigError
from terrazzo.models.exporter import GraphForm, exporter
from terrazzo.testing.exporter_checks import assert_same, noise, trained
from terrazzo_torch import export
from terrazzo_torch.backend import backend

MODELS = backend.models()
FAST = "unet"


def _slow(value: str):
    return pytest.param(value, marks=pytest.mark.slow)


MODELS_FAST_FIRST = [model if model == FAST else _slow(model) for model in MODELS]


def _openvino(folder: Path, form: GraphForm, *, layout: str = "NHWC"):
    openvino = pytest.importorskip("openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)
    return lambda images: _in_order(model({"image": _turned(images, layout)}), form, layout)


def _onnxruntime(folder: Path, form: GraphForm, *, layout: str = "NHWC"):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(folder / "model.onnx", options)
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = session.run(None, {"image": _turned(images, layout)})
        return _in_order(dict(zip(names, outputs, strict=True)), form, layout)

    return run


def _program(folder: Path, form: GraphForm, *, layout: str = "NHWC"):
    assert layout == form.layout
    session = export.open("torch", folder, None, form)
    first = session.logits if form.output == "logits" else session.probabilities
    return lambda images: (first(images), session.labels(images))


def _turned(images_BHWC: np.ndarray, layout: str) -> np.ndarray:
    turned = images_BHWC if layout == "NHWC" else images_BHWC.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(turned)


def _in_order(outputs, form: GraphForm, layout: str) -> tuple[np.ndarray, ...]:
    first = outputs[form.output]
    return (first if layout == "NHWC" else first.transpose(0, 2, 3, 1)), outputs["labels"]


RUNTIMES = {"openvino": _openvino, "onnx": _onnxruntime, "torch": _program}


def _check(to: str, model: str, folder: Path, dtype: str = "uint8", **options) -> dict:
    trainer, card = trained(backend, model, dtype, **options)
    form = GraphForm(dtype)
    facts = export.write(to, trainer, card, form, folder)
    assert_same(trainer, card, RUNTIMES[to](folder, form))
    return facts


@pytest.mark.parametrize("model", MODELS)
def test_openvino_gives_what_the_model_gives(model: str, tmp_path: Path) -> None:
    assert _check("openvino", model, tmp_path)["openvino"]
    assert {path.name for path in tmp_path.iterdir()} == {"model.xml", "model.bin"}


@pytest.mark.parametrize("model", MODELS_FAST_FIRST)
def test_onnx_gives_what_the_model_gives(model: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    assert _check("onnx", model, tmp_path)["opset"] == 20
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx"}
    written = onnx.load(tmp_path / "model.onnx")
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*written.graph.input, *written.graph.output)
    }
    assert axes == {
        "image": ["batch", "height", "width", 3],
        "logits": ["batch", "height", "width", 4],
        "labels": ["batch", "height", "width"],
    }
    facts = {entry.key: entry.value for entry in written.metadata_props}
    assert facts["class_names"] == '["class 0", "class 1", "class 2", "class 3"]'
    assert facts["normalization"] == '"inside"'


@pytest.mark.parametrize("model", MODELS_FAST_FIRST)
def test_program_gives_what_the_model_gives(model: str, tmp_path: Path) -> None:
    assert _check("torch", model, tmp_path)["torch"] == torch.__version__
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt2"}


@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize(
    ("dtype", "num_bands", "num_classes"), [("uint16", 5, 300), ("float32", 1, 2)]
)
def test_images_and_labels_of_every_type(
    to: str, dtype: str, num_bands: int, num_classes: int, tmp_path: Path
) -> None:
    _check(to, FAST, tmp_path, dtype, num_bands=num_bands, num_classes=num_classes)


@pytest.mark.parametrize("training", [{"ema": 0.5}, {"precision": "bfloat16"}])
def test_averaged_weights_are_written_and_in_float32(training: dict, tmp_path: Path) -> None:
    _check("openvino", FAST, tmp_path, **training)


@pytest.mark.parametrize(
    ("encoder", "depth"), [("test_resnet", 5), ("test_convnext", 4), ("test_efficientnet", 5)]
)
def test_unets_on_encoders_of_timm(encoder: str, depth: int, tmp_path: Path) -> None:
    options = {"encoder": encoder, "width": 2, "depth": depth}
    _check("openvino", "unet", tmp_path, options=options)


@pytest.mark.parametrize("to", RUNTIMES)
def test_layout_probabilities_and_a_fixed_size(to: str, tmp_path: Path) -> None:
    trainer, card = trained(backend, FAST)
    form = GraphForm("uint8", layout="NCHW", output="probabilities", size=(32, 48))
    export.write(to, trainer, card, form, tmp_path)
    run = RUNTIMES[to](tmp_path, form, layout="NCHW")
    for batch in (1, 3):
        images_BHWC = noise("uint8", batch, 32, 48, 3)
        probabilities_BHWK, _ = run(images_BHWC)
        np.testing.assert_allclose(probabilities_BHWK, trainer.predict(images_BHWC), atol=1e-5)
    with pytest.raises(Exception, match=r"33|32"):
        run(noise("uint8", 1, 33, 48, 3))


@pytest.mark.parametrize("to", ["openvino", "torch"])
def test_normalised_outside_and_without_labels(to: str, tmp_path: Path) -> None:
    trainer, card = trained(backend, FAST)
    form = GraphForm("uint8", normalization="outside", labels=False)
    export.write(to, trainer, card, form, tmp_path)
    images_BHWC = noise("uint8", 1, 13, 18, 3)
    normalised = (images_BHWC - np.float32(card.bands.mean)) / np.float32(card.bands.std)
    if to == "openvino":
        openvino = pytest.importorskip("openvino")
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        model = openvino.Core().compile_model(tmp_path / "model.xml", "CPU", settings)
        outputs = list(model({"image": normalised}).values())
    else:
        module = torch.export.load(tmp_path / "model.pt2").module()
        outputs = [o.detach().numpy() for o in module(torch.from_numpy(normalised))]
    assert len(outputs) == 1
    expected = export.logits(trainer, images_BHWC)
    assert np.abs(outputs[0] - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("to", ["openvino", *map(_slow, ("onnx", "torch"))])
def test_float16_halves_the_weights_and_stays_near(to: str, tmp_path: Path) -> None:
    trainer, card = trained(backend, FAST)
    sizes = {}
    for precision in ("float32", "float16"):
        folder = tmp_path / precision
        folder.mkdir()
        form = GraphForm("uint8", precision=precision)
        export.write(to, trainer, card, form, folder)
        sizes[precision] = max(path.stat().st_size for path in folder.iterdir())
        images_BHWC = noise("uint8", 2, 29, 34, 3)
        logits_BHWK, _ = RUNTIMES[to](folder, form)(images_BHWC)
    expected = export.logits(trainer, images_BHWC)
    assert 0 < np.abs(logits_BHWK - expected).max() <= 1e-2 * np.ptp(expected)
    assert sizes["float16"] < 0.85 * sizes["float32"]


def test_the_converter_of_openvino_sends_nothing(tmp_path: Path) -> None:
    telemetry = pytest.importorskip("openvino_telemetry")
    trainer, card = trained(backend, FAST)
    export.write("openvino", trainer, card, GraphForm("uint8"), tmp_path)
    assert telemetry.Telemetry().consent is False


def test_what_cannot_be_written_is_refused_with_what_can(tmp_path: Path) -> None:
    trainer, card = trained(backend, FAST)
    with pytest.raises(ConfigError, match="onnx, openvino, torch, huggingface") as caught:
        export.write("litert", trainer, card, GraphForm("uint8"), tmp_path)
    assert caught.value.code == "SEG-X080"
    with pytest.raises(ConfigError, match="float32, float16"):
        export.write("torch", trainer, card, GraphForm("uint8", precision="int8"), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_the_exporter_is_found() -> None:
    assert exporter("torch").FORMATS == export.FORMATS
