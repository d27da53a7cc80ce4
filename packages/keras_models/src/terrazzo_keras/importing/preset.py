"""A preset of keras-hub: a folder that ``save_to_preset`` of an image segmenter wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from terrazzo.base.config_parsing import Size
from terrazzo.base.recipe import ModelConfig
from terrazzo.data.class_matching import Matching
from terrazzo.models.contract import State
from terrazzo.models.published_network import (
    Asked,
    PublishedNetwork,
    Taken,
    digests,
    require_one_to_one,
)
from terrazzo_keras import keras_hub_networks
from terrazzo_keras.keras_hub_files import read_object, read_segmenter, refused, unknown
from terrazzo_keras.keras_hub_networks import (
    BACKBONE_FILE,
    DEEPLAB,
    SEGFORMER,
    SEGMENTER_FILE,
    SEGMENTERS,
)
from terrazzo_keras.layout import variable_names

_RGB = ("red", "green", "blue")
_PREPARED_FILES = ("preprocessor.json", "image_converter.json")


def read(source: Path, asked: Asked) -> PublishedNetwork:
    """Read what a preset says of its network.

    Raises:
        ConfigError: SEG-X155 it is no preset of an image segmenter; SEG-X156 it names code of its
            own; SEG-X160 what it says cannot be taken over; SEG-X003 keras-hub is missing;
            SEG-X195 of the engine.
        CheckpointError: SEG-C006, a file is damaged or missing.
    """
    if asked.architecture is not None or asked.revision is not None:
        raise unknown(source, "--architecture or --revision")
    if not (source / BACKBONE_FILE).is_file():
        raise unknown(source, f"no {BACKBONE_FILE} in it" if source.is_dir() else "no folder")
    said = read_object(source / BACKBONE_FILE)
    backbone = said.get("class_name")
    if backbone not in SEGMENTERS:
        raise unknown(source / BACKBONE_FILE, f"class_name = {backbone!r}")
    keras_hub_networks.library()
    settings = keras_hub_networks.settings_of(said, backbone)
    segmenter = read_segmenter(source)
    prepared = _prepared(source)
    number = int(segmenter["num_classes"])
    size, rule = prepared.size, prepared.size_rule
    if backbone == SEGFORMER:
        trained = _segformer_size(settings, source)
        size = size or (None if rule else trained)
    files = [source / name for name in (BACKBONE_FILE, SEGMENTER_FILE, *_PREPARED_FILES)]
    files += keras_hub_networks.weight_files(source)

    def take(matching: Matching, _: Size | None) -> Taken:
        require_one_to_one(matching, "keras-hub")
        model, network = (_deeplab if backbone == DEEPLAB else _segformer)(settings, number, source)
        order = [group[0] for group in matching.groups]
        return Taken(model, _state(network, order), ())

    return PublishedNetwork(
        kind=f"keras-hub {metadata.version('keras-hub')}: {SEGMENTERS[backbone]}",
        class_names=tuple(map(str, range(number))),
        has_names=False,
        labels_reduced=False,
        band_names=_RGB,
        mean=prepared.mean,
        std=prepared.std,
        image_size=size,
        size_rule=rule,
        normalization_unknown=f"neither {' nor '.join(_PREPARED_FILES)} says it",
        notes=(
            "keras-hub computes GELU by its approximation and adds 1e-6 to the variances of its "
            "blocks, unlike the network that was published; so does the run",
        )
        if backbone == SEGFORMER
        else (),
        files=digests(file for file in files if file.is_file()),
        origin=str(source),
        take=take,
    )


class _Prepared(NamedTuple):
    """How images are prepared; see `PublishedNetwork`."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    size: Size | None
    size_rule: str | None


def _prepared(folder: Path) -> _Prepared:
    """Read the settings of the image converter: pixels · scale + offset.

    Raises:
        ConfigError: SEG-X160, they are no numbers.
        CheckpointError: SEG-C006, the file is damaged.
    """
    for name in _PREPARED_FILES:
        file = folder / name
        if file.is_file():
            said = read_object(file).get("config", {})
            if name == _PREPARED_FILES[0]:
                said = (said.get("image_converter") or {}).get("config")
            if said is not None:
                break
    else:
        nothing = f"neither {' nor '.join(_PREPARED_FILES)} in the preset"
        return _Prepared(None, None, None, nothing)
    try:
        scale, offset = _scale_and_offset(said)
        size, rule = _size(said)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise refused(file, str(error)[:200], "numbers, as the class saves them") from error
    if len(scale) != 3 or len(offset) != 3 or min(scale) <= 0:
        raise refused(file, f"scale {scale}, offset {offset}", "a number, or three")
    std = tuple(1 / each for each in scale)
    mean = tuple(-o * s for o, s in zip(offset, std, strict=True))
    return _Prepared(mean, std, size, rule)


def _scale_and_offset(said: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    scale, offset = said.get("scale"), said.get("offset")
    if "variance" in said and "mean" in said:  # presets of the first releases
        deviations = [math.sqrt(v) for v in said["variance"]]
        offset = [-m / d for m, d in zip(said["mean"], deviations, strict=True)]
        scale = [float(1 if scale is None else scale) / d for d in deviations]
    return _a_band(1.0 if scale is None else scale), _a_band(0.0 if offset is None else offset)


def _a_band(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, list) else [float(value)] * 3


def _size(said: Mapping[str, Any]) -> tuple[Size | None, str | None]:
    """Return the one size of all images, or a rule that is none."""
    size = said.get("image_size")
    if "height" in said and "width" in said:
        size = [said["height"], said["width"]]
    if size is None:
        return None, None
    rows, columns = (int(length) for length in size)
    # As the class has it where the file does not say it.
    for key, does in (("pad_to_aspect_ratio", "padded"), ("crop_to_aspect_ratio", "cut")):
        if said.get(key, key == "crop_to_aspect_ratio"):
            return None, f"image_size = {rows}×{columns}, {does} to its proportions ({key})"
    return (rows, columns), None


def _segformer_size(settings: Mapping[str, Any], source: Path) -> Size:
    """Return the one size that the package's own network takes.

    Raises:
        ConfigError: SEG-X160, it is no square: the package mixes up rows and columns there.
    """
    shape = settings["config"]["image_encoder"]["config"].get("image_shape")
    try:
        rows, columns, bands = (int(length) for length in shape)
    except (TypeError, ValueError):
        rows, columns, bands = 0, 0, 0
    if rows != columns or bands != 3 or rows < 1 or rows % 32:
        raise refused(source / BACKBONE_FILE, f"image_shape = {shape}", "[N, N, 3], N times 32")
    return rows, columns


def _deeplab(
    settings: Mapping[str, Any], number: int, source: Path
) -> tuple[ModelConfig, keras.Model]:
    from terrazzo_keras.models import keras_hub

    network = keras_hub.make(settings, 3, number)
    theirs = keras_hub_networks.segmenter(settings, number)
    keras_hub_networks.load_weights(theirs, source)
    keras_hub.copy(theirs, network, head=True)
    text = json.dumps(settings, sort_keys=True)
    return ModelConfig(name="keras_hub", options={"config": text}), network


def _segformer(
    settings: Mapping[str, Any], number: int, source: Path
) -> tuple[ModelConfig, keras.Model]:
    from terrazzo_keras.importing import segformer_preset

    options = segformer_preset.options_of(settings, source / BACKBONE_FILE)
    size = _segformer_size(settings, source)
    theirs = keras_hub_networks.segmenter(settings, number, size)
    keras_hub_networks.load_weights(theirs, source)
    return segformer_preset.copied(theirs, options, number)


def _state(network: keras.Model, order: list[int]) -> State:
    """Return the weights of a network, its classes in `order`."""
    names = variable_names(network)
    state: dict[str, NDArray[np.generic]] = {}
    for variable in network.variables:
        if variable.dtype != "float32":
            continue  # seeds of dropout
        name, array = names[id(variable)], ops.convert_to_numpy(variable)
        if name.startswith("logits/"):
            array = array[..., order]
        state[f"weights/{name}"] = np.array(array, order="C")
    return state
