"""``model/``: the weights and all that prediction needs beside them.

``model.toml`` holds the backend, the model with its options, the precision of its arithmetic, the
label map, the bands with their mean and standard deviation, and the image size;
``weights.safetensors`` the arrays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from terrazzo.base import config_parsing
from terrazzo.base.atomic_write import writing
from terrazzo.base.config_parsing import Frozen, Size, read_toml
from terrazzo.base.errors import CheckpointError
from terrazzo.base.recipe import ModelConfig, Precision, TrainingConfig
from terrazzo.data import labels
from terrazzo.data.pixel_size import PixelSizes, Range
from terrazzo.data.sample import Bands
from terrazzo.io.pixels import NodataRule, ReadingRules, Scaling
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import State, Trainer
from terrazzo.runs import checkpoint


class _BandsTable(Frozen):
    names: tuple[str, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _CardTable(Frozen):
    format: int
    backend: str
    step: int
    precision: Precision = "auto"
    """Models of before it was stored have none."""
    image_size: Size | None = None
    pixel_metres: tuple[Range, Range] | Range | None = None
    """Width and height, the smallest and the largest of each; both alike until version 0.1."""
    nodata_rule: NodataRule = "auto"
    apply_scale: bool = False
    alpha: str | None = None
    scaling: Scaling | None = None
    model: ModelConfig
    bands: _BandsTable
    labels: dict[str, Any]


def write(folder: Path, card: ModelCard, weights: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a model folder in place of an older one; complete or not at all.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; an older one is untouched.
    """
    needed = sum(array.nbytes for array in weights.values())
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with writing(folder, problem="the model could not be written", needed_bytes=needed):
            temporary.mkdir(parents=True)
            _fill(temporary, card, weights)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill(folder: Path, card: ModelCard, weights: Mapping[str, NDArray[np.generic]]) -> None:
    checkpoint.write_arrays(folder / "weights.safetensors", weights)
    table: dict[str, Any] = {
        "format": checkpoint.FORMAT,
        "backend": card.backend,
        "step": card.step,
        **{name: rule for name, rule in card.rules._asdict().items() if rule is not None},
        "precision": card.precision,
        "model": card.model.model_dump(mode="json"),
        "bands": {
            "names": list(card.bands.names),
            "dtype": card.bands.dtype,
            "mean": list(card.bands.mean),
            "std": list(card.bands.std),
        },
        "labels": card.label_map.as_toml(),
    }
    if card.image_size is not None:
        table["image_size"] = list(card.image_size)
    if card.scaling is not None:
        table["scaling"] = [list(pair) for pair in card.scaling]
    if card.pixel_metres is not None:
        table["pixel_metres"] = [list(card.pixel_metres.width), list(card.pixel_metres.height)]
    (folder / "model.toml").write_text(tomli_w.dumps(table), encoding="utf-8")


def read_card(folder: Path) -> ModelCard:
    """Read ``model.toml``.

    Raises:
        CheckpointError: SEG-C012, there is no finished model here.
    """
    path = folder / "model.toml"
    if not path.is_file():
        raise CheckpointError(
            "SEG-C012",
            "there is no trained model here",
            file=folder,
            observed="no model.toml",
            next_step="train it first, or finish the run with --resume",
        )
    table = config_parsing.parse(_CardTable, read_toml(path), where=path)
    return ModelCard(
        backend=table.backend,
        model=table.model,
        label_map=labels.from_toml(table.labels, where=path),
        bands=Bands(table.bands.names, table.bands.dtype, table.bands.mean, table.bands.std),
        image_size=table.image_size,
        step=table.step,
        pixel_metres=_pixel_sizes(table.pixel_metres),
        rules=ReadingRules(table.nodata_rule, table.apply_scale, table.alpha),
        scaling=table.scaling,
        precision=table.precision,
    )


def _pixel_sizes(stored: tuple[Range, Range] | Range | None) -> PixelSizes | None:
    if stored is None:
        return None
    first, second = stored
    if isinstance(first, tuple) and isinstance(second, tuple):
        return PixelSizes(first, second)
    assert not isinstance(first, tuple)
    assert not isinstance(second, tuple)
    return PixelSizes.square(first, second)


def read_weights(folder: Path) -> State:
    """Read the arrays of a model folder.

    Raises:
        CheckpointError: SEG-C006, the file is missing or damaged.
    """
    path = folder / "weights.safetensors"
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            "SEG-C006", "the weights cannot be read", file=path, observed=error
        ) from error


def load(folder: Path) -> tuple[ModelCard, Trainer]:
    """Build the model of a folder with its weights.

    Raises:
        CheckpointError: the folder is incomplete, or its weights do not fit the model.
        ConfigError: the backend is not installed.
    """
    card = read_card(folder)
    weights = read_weights(folder)
    # The weights are here, so those the training began with are not needed again.
    options = {name: value for name, value in card.model.options.items() if name != "pretrained"}
    model = card.model.model_copy(update={"options": options})
    # Only the forward pass is used: of the training settings, nothing but the precision matters.
    training = TrainingConfig(steps=1, precision=card.precision)
    trainer = backends.load(card.backend).build(model, training, card.label_map, card.bands, seed=0)
    trainer.load_state(weights)
    return card, trainer
