"""`terrazzo import` of presets that keras-hub writes: logits and labels stay."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import pytest
import tomli_w
from keras import ops
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.json_files import read_json
from terrazzo.io.images import read_image
from terrazzo.models.published_network import Asked
from terrazzo.models.segformer_sizes import SIZES, SegformerSize
from terrazzo.models.weight_conversion import common_options
from terrazzo.runs import saved_model
from terrazzo.workflows import import_model
from terrazzo.workflows.convert import convert
from terrazzo.workflows.import_model import Preprocessing
from terrazzo_keras.models import keras_hub as model_file

FOUR = ("tree", "road", "building", "sky")
BY_NUMBER = ["0=sky", "1=building", "2=road", "3=tree"]
ORDER = [3, 2, 1, 0]
SCALE, OFFSET = [1 / 58.0, 1 / 57.0, 1 / 57.5], [-2.1, -2.0, -1.8]
SIDE = 64


@pytest.fixture
def images_BHWC() -> NDArray[np.uint8]:  # noqa: N802 - a shape suffix
    data = os.environ.get("TERRAZZO_DATA")
    if data is None:
        pytest.skip("TERRAZZO_DATA is not set")
    files = sorted((Path(data) / "camvid" / "test").iterdir())[:2]
    return np.stack([read_image(file)[:SIDE, :SIDE] for file in files])


def _map(path: Path, names: tuple[str, ...] = FOUR) -> Path:
    classes = [{"name": n, "colour": "#0000FF", "raw": [k]} for k, n in enumerate(names)]
    path.write_text(tomli_w.dumps({"name": "ours", "classes": classes}))
    return path


def _disturbed(network: Any, gain: float = 1) -> Any:
    """Give all weights values of their own, batch statistics and biases too.

    With a gain of 1 a layer keeps the size of its values; more lets it matter which GELU it is.
    """
    generator = np.random.default_rng(0)
    for weight in network.weights:
        shape, name = tuple(weight.shape), weight.path.rpartition("/")[2]
        if weight.dtype != "float32":
            continue
        values = generator.normal(size=shape)
        if len(shape) > 1:
            values *= gain * np.prod(shape[:-1]) ** -0.5
        else:
            values = 0.1 * values + (name in ("gamma", "moving_variance"))
        weight.assign(np.abs(values) if name == "moving_variance" else values)
    return network


def _converter(kind: Any, **settings: Any) -> Any:
    given = {"image_size": (SIDE, SIDE), "crop_to_aspect_ratio": False}
    return kind(**{**given, "scale": SCALE, "offset": OFFSET, **settings})


def _deeplab(folder: Path, **settings: Any) -> Any:
    models = keras_hub.models
    encoder = models.ResNetBackbone(
        input_conv_filters=settings.pop("input_conv_filters", [64]),
        input_conv_kernel_sizes=settings.pop("input_conv_kernel_sizes", [7]),
        stackwise_num_filters=[64, 32, 32],
        stackwise_num_blocks=[1, 2, 1],
        stackwise_num_strides=[1, 2, 2],
        block_type=settings.pop("block_type", "basic_block"),
        use_pre_activation=settings.pop("use_pre_activation", False),
        image_shape=(None, None, 3),
    )
    converter = _converter(keras_hub.layers.DeepLabV3ImageConverter, **settings.pop("images", {}))
    activation = settings.pop("activation", None)
    given = {
        "spatial_pyramid_pooling_key": "P4",
        "low_level_feature_key": "P2",
        "upsampling_size": 4,
        "dilation_rates": [2, 4],
        "projection_filters": 8,
    }
    network = models.DeepLabV3ImageSegmenter(
        models.DeepLabV3Backbone(image_encoder=encoder, **(given | settings)),
        num_classes=4,
        activation=activation,
        preprocessor=models.DeepLabV3ImageSegmenterPreprocessor(converter),
    )
    _disturbed(network).save_to_preset(str(folder))
    return network


@pytest.fixture
def small_segformer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size for tests whose stages differ in width: the package names layers by it."""
    small = SegformerSize((8, 16, 20, 32), (1, 2, 1, 1), 24)
    monkeypatch.setitem(SIZES, "tiny", small)


def _segformer(folder: Path, size: str = "tiny", side: int = SIDE, **encoder: Any) -> Any:
    models = keras_hub.models
    given = {
        "hidden_dims": list(SIZES[size].widths),
        "layerwise_depths": list(SIZES[size].depths),
        "num_layers": 4,
        "layerwise_num_heads": [1, 2, 5, 8],
        "layerwise_sr_ratios": [8, 4, 2, 1],
        "layerwise_patch_sizes": [7, 3, 3, 3],
        "layerwise_strides": [4, 2, 2, 2],
        "max_drop_path_rate": 0.2,
        "image_shape": (side, side, 3),
    }
    backbone = models.SegFormerBackbone(
        image_encoder=models.MiTBackbone(**(given | encoder)),
        projection_filters=SIZES[size].decoder_width,
    )
    converter = _converter(keras_hub.layers.SegFormerImageConverter)
    network = models.SegFormerImageSegmenter(
        backbone,
        num_classes=4,
        preprocessor=models.SegFormerImageSegmenterPreprocessor(converter),
    )
    _disturbed(network, gain=2).save_to_preset(str(folder))
    return network


def _import(tmp_path: Path, **given: Any) -> Any:
    return import_model.import_model(
        tmp_path / "theirs",
        tmp_path / "run",
        backend="keras",
        **({"labels": _map(tmp_path / "map.toml"), "said": BY_NUMBER} | given),
    )


def _assert_same(network: Any, tmp_path: Path, images_BHWC: NDArray[np.uint8]) -> Any:
    card, trainer = saved_model.load(tmp_path / "run" / "model")
    prepared = network.preprocessor(images_BHWC.astype(np.float32))
    expected = ops.convert_to_numpy(network(prepared, training=False))[..., ORDER]
    own = trainer.logits(images_BHWC)
    assert own.std(axis=(1, 2)).max() > 0.01
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    assert (own.argmax(-1) == expected.argmax(-1)).mean() >= 0.999
    return card, trainer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"low_level_feature_key": None, "upsampling_size": 1},
        pytest.param(
            {"block_type": "bottleneck_block", "use_pre_activation": True}, marks=pytest.mark.slow
        ),
        pytest.param(
            {
                "block_type": "bottleneck_block_vd",
                "input_conv_filters": [8, 8, 64],
                "input_conv_kernel_sizes": [3, 3, 3],
                "upsampling_size": (4, 4),
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_logits_of_deeplab_are_the_packages(
    settings: dict[str, Any],
    tmp_path: Path,
    images_BHWC: NDArray[np.uint8],
) -> None:
    network = _deeplab(tmp_path / "theirs", **settings)
    _import(tmp_path)
    card, trainer = _assert_same(network, tmp_path, images_BHWC)
    assert card.model.name == "keras_hub"
    assert trainer.logits(images_BHWC[:, :37, :53]).shape == (2, 37, 53, 4)


@pytest.mark.usefixtures("small_segformer")
def test_logits_of_segformer_are_the_packages(
    tmp_path: Path,
    images_BHWC: NDArray[np.uint8],
) -> None:
    network = _segformer(tmp_path / "theirs")
    _import(tmp_path)
    card, trainer = _assert_same(network, tmp_path, images_BHWC)
    assert card.model.name == "segformer"
    assert card.model.options["arithmetic"] == "keras_hub"
    assert card.model.options["drop_path"] == 0.2
    assert card.image_size == (SIDE, SIDE)
    assert trainer.logits(images_BHWC[:, :37, :53]).shape == (2, 37, 53, 4)
    record = read_json(tmp_path / "run" / "run.json")["imported"]
    assert "SegFormerImageSegmenter" in record["kind"]
    assert {"config.json", "task.json", "model.weights.h5", "task.weights.h5"} <= set(
        record["files"]
    )
    # PyTorch has no such arithmetic: refused before a run that nothing can load is written.
    with pytest.raises(ConfigError, match=r"(?s)SEG-X018.*arithmetic = 'keras_hub'.*export"):
        convert(tmp_path / "run", "torch", tmp_path / "moved")
    assert not (tmp_path / "moved").exists()


def test_options_that_keras_alone_has_are_left_behind_where_they_say_nothing() -> None:
    options = {"size": "b0", "arithmetic": "published"}
    assert common_options("keras", "segformer", options) == {"size": "b0"}


def _changed(file: Path, *keys: str, **values: Any) -> None:
    """Change values in a JSON file, in the table under `keys`."""
    whole = json.loads(file.read_text())
    table = whole
    for key in keys:
        table = table[key]
    table.update(values)
    file.write_text(json.dumps(whole))


ENCODER = ("config", "image_encoder")


@pytest.mark.parametrize(
    ("file", "keys", "values", "code", "told"),
    [
        ("config.json", (), {"class_name": "BertBackbone"}, "SEG-X155", "BertBackbone"),
        ("config.json", (), {"registered_name": "their>Own"}, "SEG-X156", "their>Own"),
        (
            "config.json",
            ENCODER,
            {"class_name": "Lambda", "registered_name": "Lambda"},
            "SEG-X155",
            "Lambda",
        ),
        (
            "config.json",
            (*ENCODER, "config"),
            {"block_type": {"class_name": "__lambda__"}},
            "SEG-X160",
            "__lambda__",
        ),
        ("config.json", (*ENCODER, "config"), {"block_type": "none"}, "SEG-X160", "none"),
        ("config.json", ("config",), {"upsampling_size": 3}, "SEG-X160", "enlarged 3 times"),
        ("config.json", ("config",), {"projection_filters": "8"}, "SEG-X160", "do not meet"),
        ("config.json", ("config",), {"projection_filters": 9}, "SEG-C020", "config.json"),
        ("task.json", ("config",), {"activation": "sigmoid"}, "SEG-X160", "sigmoid"),
        ("task.json", ("config",), {"num_classes": None}, "SEG-X160", "num_classes = None"),
        ("task.json", None, {}, "SEG-X155", "labels no pixels"),
        ("task.weights.h5", None, {}, "SEG-C006", "task.weights.h5"),
        ("config.json", b"{", {}, "SEG-C006", "config.json"),
        ("model.weights.h5", b"HDF", {}, "SEG-C006", "model.weights.h5"),
        (
            "preprocessor.json",
            ("config", "image_converter", "config"),
            {"crop_to_aspect_ratio": True},
            "SEG-X158",
            "crop_to_aspect_ratio",
        ),
        (
            "preprocessor.json",
            ("config", "image_converter", "config"),
            {"scale": [1, 0, 1]},
            "SEG-X160",
            "scale",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused(
    file: str,
    keys: tuple[str, ...] | bytes | None,
    values: dict[str, Any],
    code: str,
    told: str,
    tmp_path: Path,
    preset: Path,
) -> None:
    folder = shutil.copytree(preset, tmp_path / "theirs")
    if keys is None:
        (folder / file).unlink()
    elif isinstance(keys, bytes):
        (folder / file).write_bytes(keys)
    else:
        _changed(folder / file, *keys, **values)
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        _import(tmp_path)
    assert caught.value.code == code
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preset") / "deeplab"
    _deeplab(folder)
    return folder


def test_other_refusals(tmp_path: Path, preset: Path) -> None:
    shutil.copytree(preset, tmp_path / "theirs")
    with pytest.raises(ConfigError, match="SEG-X155"):
        _import(tmp_path, asked=Asked(architecture="fcn_resnet50"))
    three = _map(tmp_path / "three.toml", FOUR[:2] + FOUR[3:])
    with pytest.raises(ConfigError, match=r"(?s)SEG-X157.*keras-hub"):
        _import(tmp_path, labels=three, said=["0=sky", "1=sky", "2=road", "3=tree"])
    for name in ("preprocessor.json", "image_converter.json"):
        (tmp_path / "theirs" / name).unlink()
    size = {"image_size": "files"}
    with pytest.raises(ConfigError, match=r"SEG-X158.*normalised"):
        _import(tmp_path, preprocessing=Preprocessing(**size))
    run = _import(tmp_path, preprocessing=Preprocessing(normalize="imagenet", **size))
    assert saved_model.load(run.model)[0].image_size is None


@pytest.mark.usefixtures("small_segformer")
@pytest.mark.parametrize(
    "changes",
    [{"image_shape": [64, 128, 3]}, {"layerwise_num_heads": [1, 2, 4, 8]}],
)
def test_segformer_of_another_form_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    _segformer(tmp_path / "theirs")
    _changed(tmp_path / "theirs" / "config.json", *ENCODER, "config", **changes)
    with pytest.raises(ConfigError, match=r"(?s)SEG-X160.*" + next(iter(changes))):
        _import(tmp_path)


def test_a_training_begins_with_a_preset(preset: Path) -> None:
    text = (preset / "config.json").read_text()
    options = model_file.Options(config=text, pretrained=str(preset))
    for bands, classes in ((3, 4), (5, 4), (3, 2)):
        network = model_file.build(options, bands, classes)
        made_anew = any("made anew" in remark for remark in network.remarks)
        assert made_anew == (classes != 4)
        theirs = keras_hub.models.ImageSegmenter.from_preset(str(preset))
        grey = np.random.default_rng(0).normal(size=(1, SIDE, SIDE, 1)).astype(np.float32)
        expected = theirs(np.repeat(grey, 3, axis=-1), training=False)
        if not made_anew:
            own = network(np.repeat(grey, bands, axis=-1), training=False)
            assert np.abs(own - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.slow
def test_torch_as_engine_is_refused() -> None:
    program = (
        "from terrazzo_keras.backend import import_trainer; import_trainer('torch');"
        "from terrazzo_keras import keras_hub_networks as k\n"
        "try: k.library()\n"
        "except Exception as error: print(error.code)\n"
        "import sys; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["SEG-X195", "False"]
