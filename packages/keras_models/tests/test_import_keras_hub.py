"""`terrazzo import` of presets that keras-hub writes: logits and labels stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import pytest
import tomli_w
from keras import ops
from numpy.typing import NDArray

from terrazzo.base.json_files import read_json
from terrazzo.io.images import read_image
from terrazzo.models.segformer_sizes import SIZES, SegformerSize
from terrazzo.runs import saved_model
from terrazzo.workflows import import_model

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


def _map(path: Path) -> Path:
    classes = [{"name": n, "colour": "#0000FF", "raw": [k]} for k, n in enumerate(FOUR)]
    path.write_text(tomli_w.dumps({"name": "ours", "classes": classes}))
    return path


def _disturbed(network: Any) -> Any:
    """Give all weights values of their own, batch statistics and biases too."""
    generator = np.random.default_rng(0)
    for weight in network.weights:
        shape, name = tuple(weight.shape), weight.path.rpartition("/")[2]
        if weight.dtype != "float32":
            continue
        values = generator.normal(size=shape)
        if len(shape) > 1:
            values *= np.prod(shape[:-1]) ** -0.5
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
    _disturbed(network).save_to_preset(str(folder))
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
        {"block_type": "bottleneck_block", "use_pre_activation": True},
        {
            "block_type": "bottleneck_block_vd",
            "input_conv_filters": [8, 8, 64],
            "input_conv_kernel_sizes": [3, 3, 3],
            "upsampling_size": (4, 4),
        },
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
