"""DeepLabV3 and DeepLabV3+ as keras-hub has them, by the ``config.json`` of a preset.

Its ResNets are not dilated, its pyramid lies at stride 32 as published, and its decoder is two
convolutions of one pixel; `terrazzo_keras.models.deeplabv3plus` is the network of the paper. The
image encoder comes from the package, which is an extra: ``pip install 'terrazzo-keras[hub]'``.

`terrazzo import` writes the options of a published network; see `docs/models.md`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops
from pydantic import field_validator

from terrazzo.base.config_parsing import Frozen, json_table
from terrazzo.base.errors import ConfigError
from terrazzo.models.pretrained_errors import Pretrained, path_of
from terrazzo_keras import keras_hub_networks, normalization
from terrazzo_keras.keras_hub_files import read_segmenter
from terrazzo_keras.keras_hub_networks import DEEPLAB, ENCODERS
from terrazzo_keras.normalization import BatchNormalization
from terrazzo_keras.padding import CropTo, PadToMultiple
from terrazzo_keras.pretrained import inflate
from terrazzo_keras.resizing import SpreadOver, UpsampleBilinear

WIDTH = 256
"""Channels of the pyramid's branches and of the decoder, which the package does not let choose."""

_RESNET18: dict[str, Any] = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_blocks": [2, 2, 2, 2],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
}


def _deeplab(encoder: Mapping[str, Any], level: int, rates: list[int]) -> dict[str, Any]:
    settings = {
        "image_encoder": {"class_name": ENCODERS[DEEPLAB], "config": encoder},
        "projection_filters": 48,
        "spatial_pyramid_pooling_key": f"P{level}",
        "low_level_feature_key": "P2",
        "upsampling_size": 2 ** (level - 2),
        "dilation_rates": rates,
    }
    return {"class_name": DEEPLAB, "config": settings}


class Options(Frozen):
    """Options of a network of keras-hub."""

    config: dict[str, Any] | str = json.dumps(_deeplab(_RESNET18, 5, [6, 12, 18]))
    """What ``config.json`` of a preset holds: a table, or the text of the file."""
    pretrained: Pretrained = False
    """A folder as ``save_to_preset`` writes it."""

    @field_validator("config")
    @classmethod
    def _as_text(cls, config: dict[str, Any] | str) -> str:
        return json_table(config, "config")


_TWO_STACKS = {
    "stackwise_num_filters": [64, 32],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
}
SMALL = Options(config=_deeplab(_RESNET18 | _TWO_STACKS, 3, [2]))
ENCODER = ("conv", "stack", "pool1_", "post_")
HEAD = ("logits/",)


def build(options: Options, num_bands: int, num_classes: int) -> keras.Model:
    """Make the network; random weights, or those of a preset.

    Args:
        options: see `Options`.
        num_bands: C of the images.
        num_classes: K of the logits.

    Returns:
        A model from normalised B×H×W×C images of any size to float32 B×H×W×K logits.

    Raises:
        ConfigError: SEG-X155, SEG-X156 and SEG-X160 as `keras_hub_networks.settings_of`.
        CheckpointError: as `keras_hub_networks.load_weights`.
    """
    settings = keras_hub_networks.settings_of(str(options.config), DEEPLAB)
    network = make(settings, num_bands, num_classes)
    if options.pretrained is not False:
        network.remarks = _load(network, settings, str(options.pretrained), num_bands)
    return network


def make(settings: Mapping[str, Any], num_bands: int, num_classes: int) -> keras.Model:
    """Make the network that `settings_of` describes, with random weights."""
    said = settings["config"]
    level, up, finest = _levels(said)
    encoder = keras_hub_networks.image_encoder(settings, num_bands)
    images = keras.Input((None, None, num_bands), name="images")
    padded = PadToMultiple(2**level, name="pad")(images)
    maps = _maps(encoder, padded)
    x = _pyramid(maps[said["spatial_pyramid_pooling_key"]], said["dilation_rates"])
    x = _enlarged(x, up, "pyramid_upsample")
    if finest is not None:
        fine = _convolution(maps[finest], said["projection_filters"], 1, "decoder_fine")
        x = layers.Concatenate(name="decoder_concatenate")([x, fine])
    x = _convolution(x, WIDTH, 1, "decoder_fuse")
    # The package enlarges before this layer, which has no bias: the same numbers, and 256 maps of
    # the size of the image. float32 whatever the policy, as in the other models.
    x = layers.Conv2D(num_classes, 1, use_bias=False, dtype="float32", name="logits")(x)
    x = _enlarged(x, 2**level // up, "upsample", dtype="float32")
    logits = CropTo(name="crop")([x, images])
    model = keras.Model(images, logits, name="keras_hub")
    model.remarks = ()
    return model


def _levels(said: Mapping[str, Any]) -> tuple[int, int, str | None]:
    """Return the pyramid's level, how much it is enlarged, and the key of the finer map.

    Raises:
        ConfigError: SEG-X160, maps do not meet.
    """
    key, finest = said.get("spatial_pyramid_pooling_key"), said.get("low_level_feature_key")
    up = said.get("upsampling_size")
    if isinstance(up, list) and len(up) == 2 and up[0] == up[1]:
        up = up[0]
    strides = _strides(said["image_encoder"]["config"])
    fits = (
        key in strides
        and (finest is None or finest in strides)
        and isinstance(up, int)
        and up > 0
        and strides[key] % up == 0
        and strides[key] == 2 ** int(key[1:])
        and (finest is None or strides[finest] * up == strides[key])
        and _are_numbers(said.get("dilation_rates"))
        and _are_numbers([said.get("projection_filters")])
    )
    if not fits:
        raise ConfigError(
            "SEG-X160",
            "the maps of this DeepLabV3 do not meet",
            observed=f"{key} enlarged {up} times beside {finest}; strides {strides}; "
            f"dilation_rates = {said.get('dilation_rates')}",
            allowed="spatial_pyramid_pooling_key Pn at stride 2^n, upsampling_size from there to "
            "low_level_feature_key",
            next_step="compare config.json with the publisher's",
        )
    assert isinstance(key, str)
    assert isinstance(up, int)
    return int(key[1:]), up, finest


def _strides(encoder: Mapping[str, Any]) -> dict[str, int]:
    """Return the pixels of a cell of each map of a ResNet; nothing where they are no numbers."""
    factors = encoder.get("stackwise_num_strides")
    if not _are_numbers(factors):
        return {}
    assert isinstance(factors, list)
    return {f"P{2 + n}": 4 * math.prod(factors[: n + 1]) for n in range(len(factors))}


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, int) and value > 0 for value in values)
    )


def _maps(encoder: Any, images: Any) -> dict[str, Any]:
    """Lay the layers of an encoder out in the graph of `images`; return its maps.

    A network inside another would be frozen and change its type of numbers as a whole.
    """
    inner = keras.Model(encoder.inputs[0], encoder.pyramid_outputs)
    maps: dict[str, Any] = inner.call(images)
    normalization.use_in(keras.Model(images, maps), 0.9)
    return maps


def _pyramid(x: Any, rates: list[int]) -> Any:
    point = _convolution(x, WIDTH, 1, "pyramid_point")
    around = [
        _convolution(x, WIDTH, 3, f"pyramid_rate_{number}", rate=rate)
        for number, rate in enumerate(rates)
    ]
    image = layers.GlobalAveragePooling2D(keepdims=True, name="pyramid_image_mean")(x)
    image = _convolution(image, WIDTH, 1, "pyramid_image")
    image = SpreadOver(name="pyramid_image_spread")([image, x])
    x = layers.Concatenate(name="pyramid_concatenate")([point, *around, image])
    return _convolution(x, WIDTH, 1, "pyramid_fuse")


def _enlarged(x: Any, factor: int, name: str, **given: Any) -> Any:
    return x if factor == 1 else UpsampleBilinear(factor, name=name, **given)(x)


def _convolution(x: Any, filters: int, kernel: int, name: str, *, rate: int = 1) -> Any:
    x = layers.Conv2D(
        filters, kernel, padding="same", dilation_rate=rate, use_bias=False, name=f"{name}_conv"
    )(x)
    x = BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _load(
    network: keras.Model, settings: Mapping[str, Any], option: str, num_bands: int
) -> tuple[str, ...]:
    """Read the weights of a preset; return remarks."""
    folder = path_of(option, ())
    num_classes = number_of_classes(folder)
    theirs = keras_hub_networks.segmenter(settings, num_classes)
    keras_hub_networks.load_weights(theirs, folder)
    remarks = [f"weights of the whole network: {folder}"]
    same = num_classes == network.output_shape[-1]
    copy(theirs, network, head=same)
    if num_bands != 3:
        remarks.append(f"first convolution: 3 bands in the weights, {num_bands} here")
    if not same:
        remarks.append(f"logits: {num_classes} classes in the weights, made anew")
    return tuple(remarks)


def number_of_classes(folder: Path) -> int:
    """Return the number of classes of a preset.

    Raises:
        CheckpointError: SEG-C006, its ``task.json`` cannot be read.
    """
    return int(read_segmenter(folder)["num_classes"])


def copy(theirs: Any, network: keras.Model, *, head: bool) -> None:
    """Give our network the weights of the package's."""
    encoder = {layer.name: layer for layer in theirs.backbone.image_encoder.layers}
    for layer in network.layers:
        if layer.name in encoder and layer.weights:
            _assign(layer, encoder[layer.name])
    for source, name in _pairs(theirs):
        if name != "logits" or head:
            _assign(network.get_layer(name), source)


def _pairs(theirs: Any) -> Iterator[tuple[Any, str]]:
    """Yield layers of the package beside the names of ours."""
    backbone = theirs.backbone
    found = [layer for layer in backbone.layers if hasattr(layer, "aspp_parallel_channels")]
    (pyramid,) = found
    point, *around, image = pyramid.aspp_parallel_channels
    blocks = {"pyramid_point": point, "pyramid_image": image, "pyramid_fuse": pyramid.projection}
    blocks |= {f"pyramid_rate_{number}": block for number, block in enumerate(around)}
    for name, block in blocks.items():
        conv, norm = (layer for layer in block.layers if layer.weights)
        yield conv, f"{name}_conv"
        yield norm, f"{name}_norm"
    if backbone.low_level_feature_key:
        yield backbone.get_layer("decoder_conv"), "decoder_fine_conv"
        yield backbone.get_layer("decoder_norm"), "decoder_fine_norm"
    yield backbone.get_layer("segmentation_head_conv"), "decoder_fuse_conv"
    yield backbone.get_layer("segmentation_head_norm"), "decoder_fuse_norm"
    yield theirs.output_conv, "logits"


def _assign(layer: Any, source: Any) -> None:
    arrays = [ops.convert_to_numpy(weight) for weight in source.weights]
    shapes = [tuple(weight.shape) for weight in layer.weights]
    if arrays[0].ndim == 4 and arrays[0].shape != shapes[0]:
        arrays[0] = inflate(arrays[0], shapes[0][2])  # the first convolution, for other bands
    layer.set_weights(arrays)
