"""A published network of NumPy: the smallest thing that `terrazzo import` can take, for tests.

A folder with ``network.json`` (class names, mean, deviation, size, whether labels are reduced) and
``network.safetensors`` (the arrays of `ReferenceTrainer`, without ``weights/``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.config_parsing import Size
from terrazzo.base.errors import ConfigError
from terrazzo.base.json_files import read_json, replace_json
from terrazzo.base.recipe import ModelConfig
from terrazzo.data.class_matching import Matching
from terrazzo.io import named_arrays
from terrazzo.models.published_network import PublishedNetwork, Taken

_DESCRIPTION, _WEIGHTS = "network.json", "network.safetensors"


def write(folder: Path, description: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Publish a network: K names and the arrays of a trainer whose classes come last."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_json(folder / _DESCRIPTION, description)
    named_arrays.write(folder / _WEIGHTS, arrays)


def read(source: Path) -> PublishedNetwork:
    """Read what a folder of `write` says of itself.

    Raises:
        ConfigError: SEG-X155, it is none.
    """
    if not (source / _DESCRIPTION).is_file():
        raise ConfigError(
            "SEG-X155",
            "this is no published network of the reference backend",
            file=source,
            observed=f"no {_DESCRIPTION}",
            next_step="write one with terrazzo.testing.reference.published.write",
        )
    said = read_json(source / _DESCRIPTION)
    mean, std = said.get("mean"), said.get("std")
    size = said.get("image_size")

    def take(matching: Matching, _: Size | None) -> Taken:
        arrays = named_arrays.read(source / _WEIGHTS)
        order = [group[0] for group in matching.groups]
        if not matching.one_to_one:
            raise ConfigError("SEG-X160", "the reference model has no groups of classes")
        weights = {f"weights/{n}": np.array(a[..., order], order="C") for n, a in arrays.items()}
        return Taken(ModelConfig(name="pixel_softmax"), weights, ())

    return PublishedNetwork(
        kind="reference pixel_softmax",
        class_names=tuple(said["names"]),
        has_names=bool(said.get("has_names", True)),
        labels_reduced=bool(said.get("labels_reduced", False)),
        band_names=("red", "green", "blue"),
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        image_size=None if size is None else (size[0], size[1]),
        size_rule=said.get("size_rule"),
        normalization_unknown="the description has no mean",
        notes=(),
        files={_WEIGHTS: hashlib.sha256((source / _WEIGHTS).read_bytes()).hexdigest()},
        origin=str(source),
        take=take,
    )
