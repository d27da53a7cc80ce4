"""A folder that ``save_pretrained`` of segmentation_models.pytorch wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, get_args

import timm
import torch
from torch import Tensor

from terrazzo.base.config_parsing import Size
from terrazzo.base.errors import ConfigError, ResourceError
from terrazzo.base.recipe import ModelConfig
from terrazzo.data.class_matching import Matching
from terrazzo.models.published_network import PublishedNetwork, Taken, digests
from terrazzo_torch import pretrained
from terrazzo_torch.importing import classes
from terrazzo_torch.importing.extra import smp_model_file

_BANDS = {1: ("grey",), 3: ("red", "green", "blue")}
_ONE_OUTPUT = (None, "identity", "sigmoid")
_NO_ACTIVATION = (None, "identity", "softmax", "softmax2d", "logsoftmax")
"""Activations that leave the most probable class, and what softmax makes of the logits, alike."""


class Normalization(NamedTuple):
    """How images were normalised that an encoder was trained on.

    Attributes:
        mean: of each band in units of uint8 pixels; None: not known.
        std: likewise.
        reverse_bands: they go in as blue, green, red.
        unknown: why mean and std are not known.
    """

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    reverse_bands: bool
    unknown: str


def read(folder: Path, origin: str, said: Mapping[str, Any]) -> PublishedNetwork:
    """Read what a folder says of its network.

    Args:
        folder: of the network.
        origin: where it comes from.
        said: its ``config.json``.

    Raises:
        ConfigError: SEG-X003 the package is not installed; SEG-X155 no such class; SEG-X160 it is
            no network of classes that exclude each other, or of other bands.
    """
    model_file = smp_model_file()
    architecture, encoder = said["_model_class"], said.get("encoder_name", "resnet34")
    if architecture not in get_args(model_file.Architecture):
        raise ConfigError(
            "SEG-X155",
            "segmentation_models.pytorch has no such class",
            file=folder / "config.json",
            observed=f"_model_class = {architecture!r}",
            allowed=", ".join(get_args(model_file.Architecture)),
            next_step="compare it with the publisher's config.json and the package's release",
        )
    number, bands = said.get("classes", 1), said.get("in_channels", 3)
    binary = _is_binary(said, number, folder)
    if bands not in _BANDS:
        raise ConfigError(
            "SEG-X160",
            "only networks of grey or of red, green and blue images can be imported",
            file=folder / "config.json",
            observed=f"in_channels = {bands}",
            allowed="1 or 3",
            next_step="for other bands, train with model.options.pretrained",
        )
    how = normalization(said, encoder, bands)
    settings = {k: v for k, v in said.items() if k not in model_file.SAME_WHATEVER}
    settings.pop("_model_class")
    options: dict[str, Any] = {"architecture": architecture, "encoder": encoder}
    if settings:
        options["settings"] = json.dumps(settings, sort_keys=True)
    if how.reverse_bands:
        options["reverse_bands"] = True

    def take(matching: Matching, _: Size | None) -> Taken:
        network = model_file.make(model_file.Options(**options), bands, number)
        weights, remarks = model_file.read_network(folder, network)
        weights = _loaded(network, weights, bands, folder)
        head = model_file.head_of(architecture)
        if binary:
            weights = _with_background(weights, head)
        chosen = dict(options)
        if groups := classes.groups_of(matching):
            chosen["outputs"] = [list(group) for group in groups]
            chosen["own_classes"] = len(matching.theirs)
        else:
            weights = classes.in_order(weights, (head,), matching)
        return Taken(ModelConfig(name="smp", options=chosen), classes.state_of(weights), remarks)

    version = metadata.version("segmentation_models_pytorch")
    return PublishedNetwork(
        kind=f"segmentation_models.pytorch {version}: {architecture} on {encoder}",
        class_names=tuple(map(str, range(2 if binary else number))),
        has_names=False,
        labels_reduced=False,
        band_names=_BANDS[bands],
        mean=how.mean,
        std=how.std,
        image_size=None,
        size_rule=None,
        normalization_unknown=how.unknown,
        notes=("one output: 1 is where it says yes (sigmoid), 0 is all else",) if binary else (),
        files=digests((folder / "config.json", *pretrained.weight_files(folder))),
        origin=origin,
        take=take,
    )


def _is_binary(said: Mapping[str, Any], number: int, folder: Path) -> bool:
    """Tell whether one output says yes or no of each pixel.

    Raises:
        ConfigError: SEG-X160, classes may overlap, or the activation is not known.
    """
    activation = said.get("activation")
    allowed = _ONE_OUTPUT if number == 1 else _NO_ACTIVATION
    if activation in allowed:
        return number == 1
    raise ConfigError(
        "SEG-X160",
        "a pixel of this network is not of one class: its outputs do not exclude each other"
        if activation == "sigmoid"
        else "what this network does with its outputs is not known here",
        file=folder / "config.json",
        observed=f"activation = {activation!r}, classes = {number}",
        allowed=", ".join(map(str, allowed)),
        next_step="such a network can begin a training, with model.options.pretrained",
    )


def normalization(said: Mapping[str, Any], encoder: str, bands: int) -> Normalization:
    """Return what the encoder's own pretraining asks for, if the folder says which that was.

    Args:
        said: the ``config.json`` of a folder.
        encoder: its name.
        bands: C of the network.
    """
    if bands != 3:
        return Normalization(None, None, False, f"in_channels = {bands}")
    if said.get("encoder_weights") is None:
        return Normalization(None, None, False, "encoder_weights = null: no pretraining is named")
    params = _params(encoder, str(said["encoder_weights"]))
    if isinstance(params, str):
        return Normalization(None, None, False, params)
    top = float(params.get("input_range", [0, 1])[1])
    if top not in (1.0, 255.0):
        return Normalization(None, None, False, f"input_range = {params['input_range']}")
    scale = 255.0 / top
    reverse_bands = params.get("input_space", "RGB") == "BGR"
    # The package turns the bands first; ours are named red, green, blue.
    order = slice(None, None, -1 if reverse_bands else 1)
    mean, std = (tuple(v * scale for v in params[key])[order] for key in ("mean", "std"))
    return Normalization(mean, std, reverse_bands, "")


def _params(encoder: str, weights: str) -> Mapping[str, Any] | str:
    """Return the settings of an encoder's pretraining, or why they are not known."""
    if encoder.startswith("tu-"):
        known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=False)
        if known is None:
            return f"timm knows no pretraining of {encoder}"
        return {"mean": known.mean, "std": known.std}
    from segmentation_models_pytorch.encoders import encoders

    published = encoders.get(encoder, {}).get("pretrained_settings", {}).get(weights)
    if published is None:
        return f"no pretraining {weights!r} of {encoder} is known"
    try:
        file = pretrained.fetched(published["repo_id"], published["revision"], ("config.json",))
    except ResourceError:
        return (
            f"it lies in {published['repo_id']}, which is neither on this machine nor within reach"
        )
    return pretrained.read_json_object(file)


def _loaded(
    network: Any, weights: dict[str, Tensor], bands: int, folder: Path
) -> dict[str, Tensor]:
    """Return the weights by the names of today: the package renames those of old encoders."""
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError:
        pretrained.adopt(network, weights, num_bands=bands, origin=folder)
    state: dict[str, Tensor] = network.state_dict()
    return state


def _with_background(weights: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Return a head of two outputs whose softmax is the sigmoid of the one that was there."""
    changed = dict(weights)
    for name in (f"{head}.weight", f"{head}.bias"):
        if name in weights:
            changed[name] = torch.cat([torch.zeros_like(weights[name]), weights[name]])
    return changed
