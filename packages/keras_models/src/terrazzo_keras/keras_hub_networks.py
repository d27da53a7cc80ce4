"""Networks of the package keras-hub, made from what their presets say and filled from their files.

Nothing is deserialised: a class is taken by its name from a short list, and its settings are plain
values. Weights are HDF5 that Keras reads as data. The package is an extra,
``pip install 'terrazzo-keras[hub]'``, and it imports TensorFlow whatever the engine.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.models.pretrained_errors import cannot_read, does_not_fit, first_line

DEEPLAB = "DeepLabV3Backbone"
SEGFORMER = "SegFormerBackbone"
SEGMENTERS = {DEEPLAB: "DeepLabV3ImageSegmenter", SEGFORMER: "SegFormerImageSegmenter"}
"""Class of the whole network by that of its backbone."""
ENCODERS = {DEEPLAB: "ResNetBackbone", SEGFORMER: "MiTBackbone"}
"""Class of the image encoder likewise: those whose numbers have been compared."""

BACKBONE_FILE, BACKBONE_WEIGHTS = "config.json", "model.weights.h5"
SEGMENTER_FILE, SEGMENTER_WEIGHTS = "task.json", "task.weights.h5"

_NOT_SETTINGS = ("dtype", "trainable", "image_encoder", "data_format", "name")


def library() -> ModuleType:
    """Import ``keras_hub.models``.

    Raises:
        ConfigError: SEG-X003 it is not installed; SEG-X195, it would bring TensorFlow into
            a process with torch.
    """
    engine = keras.backend.backend()
    if engine != "tensorflow":
        raise ConfigError(
            "SEG-X195",
            "keras-hub imports TensorFlow, whatever the engine of Keras",
            observed=f"KERAS_BACKEND={engine}",
            allowed="KERAS_BACKEND=tensorflow, or not set",
            next_step="take that engine for this network; a SegFormer that has been imported needs "
            "keras-hub no more and runs on every engine",
        )
    try:
        return importlib.import_module("keras_hub.models")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "keras_hub":
            raise
        raise ConfigError(
            "SEG-X003",
            "networks of keras-hub need a package that is not installed",
            observed=f"no package {error.name}",
            next_step="pip install 'terrazzo-keras[hub]'",
        ) from error


def settings_of(config: str | Mapping[str, Any], backbone: str) -> dict[str, Any]:
    """Return the settings of a backbone with its encoder, from the text of a ``config.json``.

    Returns:
        ``{"class_name", "config": {…, "image_encoder": {"class_name", "config"}}}`` with plain
        values alone.

    Raises:
        ConfigError: SEG-X155, it is another network; SEG-X156, it names code of its own; SEG-X160,
            it is no description of a backbone.
    """
    whole = _plain(json.loads(config) if isinstance(config, str) else config, (backbone,))
    encoder = _plain(whole["config"].get("image_encoder"), (ENCODERS[backbone],))
    _require_values(encoder)
    whole["config"]["image_encoder"] = encoder
    _require_values(whole)
    return whole


def _plain(part: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return class and settings of one object of a preset.

    Raises:
        ConfigError: SEG-X155, SEG-X156, SEG-X160.
    """
    if not isinstance(part, Mapping) or not isinstance(part.get("config"), Mapping):
        raise ConfigError(
            "SEG-X160",
            "this does not describe a network of keras-hub",
            observed=str(part)[:200],
            allowed="class_name and config, as save_to_preset writes them",
            next_step="write the preset again with save_to_preset of today's keras-hub",
        )
    name, registered = part.get("class_name"), part.get("registered_name")
    if registered is not None and registered not in (name, f"keras_hub>{name}"):
        raise ConfigError(
            "SEG-X156",
            "the network is made by code that comes with it, and such code is never run",
            observed=f"class {registered}",
            allowed="classes of keras_hub",
            next_step="ask its publisher for a version that the library has",
        )
    if name not in allowed:
        raise ConfigError(
            "SEG-X155",
            "no network of keras-hub that can be taken over",
            observed=f"class_name = {name!r}",
            allowed=", ".join(allowed),
            next_step="networks that can: "
            + "; ".join(f"{SEGMENTERS[b]} on {ENCODERS[b]}" for b in SEGMENTERS),
        )
    settings = {k: v for k, v in part["config"].items() if k not in _NOT_SETTINGS}
    if "image_encoder" in part["config"]:
        settings["image_encoder"] = part["config"]["image_encoder"]
    return {"class_name": name, "config": settings}


def _require_values(part: Mapping[str, Any]) -> None:
    """Refuse settings that are objects.

    Raises:
        ConfigError: SEG-X160.
    """
    for key, value in part["config"].items():
        if isinstance(value, Mapping) and key != "image_encoder":
            raise ConfigError(
                "SEG-X160",
                f"settings of {part['class_name']} are plain values",
                observed=f"{key} = {json.dumps(value)[:200]}",
                allowed="numbers, words, lists of them",
                next_step="compare it with a preset of today's keras-hub",
            )


def image_encoder(settings: Mapping[str, Any], num_bands: int, size: Any = None) -> Any:
    """Make the image encoder that `settings_of` describes, with random weights.

    Args:
        settings: of the backbone.
        num_bands: C.
        size: rows and columns; None: any.

    Raises:
        ConfigError: SEG-X160, the library refuses them.
    """
    encoder = settings["config"]["image_encoder"]
    shape = (*(size or (None, None)), num_bands)
    return _made(encoder["class_name"], encoder["config"] | {"image_shape": shape})


def segmenter(settings: Mapping[str, Any], num_classes: int, size: Any = None) -> Any:
    """Make the library's own network for three bands, with random weights.

    Raises:
        ConfigError: SEG-X160, the library refuses the settings.
    """
    name = settings["class_name"]
    given = settings["config"] | {"image_encoder": image_encoder(settings, 3, size)}
    if isinstance(given.get("upsampling_size"), list):  # a tuple once, and the package wants one
        given["upsampling_size"] = tuple(given["upsampling_size"])
    if "image_shape" in given:
        given["image_shape"] = (*(size or (None, None)), 3)
    return _made(SEGMENTERS[name], {"backbone": _made(name, given), "num_classes": num_classes})


def _made(name: str, settings: Mapping[str, Any]) -> Any:
    try:
        return getattr(library(), name)(**settings)
    except ConfigError:
        raise
    except Exception as error:  # the library has many kinds for a wrong value
        raise ConfigError(
            "SEG-X160",
            f"keras-hub refuses the settings of this {name}",
            observed=first_line(error)[:300],
            next_step="compare them with the publisher's config.json and the library's release",
        ) from error


def weight_files(folder: Path) -> tuple[Path, Path]:
    """Return the files of the backbone and of the layer behind it.

    Raises:
        CheckpointError: SEG-C006, one is missing.
    """
    files = (folder / BACKBONE_WEIGHTS, folder / SEGMENTER_WEIGHTS)
    for file in files:
        if not file.is_file():
            raise CheckpointError(
                "SEG-C006",
                "the weights cannot be read",
                file=file,
                observed="there is no such file",
                allowed=f"{BACKBONE_WEIGHTS} and {SEGMENTER_WEIGHTS}, as save_to_preset writes",
                next_step="copy the whole preset again, or write it in one piece "
                "(save_to_preset(max_shard_size=None))",
            )
    return files


def load_weights(network: Any, folder: Path) -> None:
    """Read the weights of a preset into the library's own network, all or none.

    Raises:
        CheckpointError: SEG-C006 a file is missing or damaged; SEG-C020 it is of another network.
    """
    backbone_file, segmenter_file = weight_files(folder)
    for file, load in (
        (backbone_file, network.backbone.load_weights),
        (segmenter_file, network.load_task_weights),
    ):
        try:
            # Where a part of the file is missing, Keras says so and keeps random weights.
            with warnings.catch_warnings(action="error", category=UserWarning):
                load(str(file))
        except OSError as error:
            raise cannot_read(file, error) from error
        except (ValueError, KeyError, UserWarning) as error:
            raise does_not_fit(
                file, first_line(error)[:300], "the weights of the network in config.json"
            ) from error
