"""Trained networks in the formats of other runtimes; see `terrazzo.models.exporter.Exporter`.

Imports no framework.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.models import backends
from terrazzo_keras.backend import backend, engine_name, import_trainer

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo.models.session import Session
    from terrazzo_keras.trainer import KerasTrainer

FORMATS = ("onnx", "openvino", "litert", "keras")
_ANY_ENGINE = ("keras",)
_PRECISIONS = {
    "onnx": ("float32",),
    "openvino": ("float32", "float16"),
    "litert": ("float32", "float16", "int8"),
    "keras": ("float32",),
}


def write(
    to: str,
    trainer: KerasTrainer,
    card: ModelCard,
    form: GraphForm,
    folder: Path,
    calibration: Iterable[NDArray[np.generic]] | None = None,
) -> dict[str, str | int]:
    """Write the files of a format; see `Exporter.write`.

    ``labels`` is False in the answer where the format has no second output.

    Raises:
        ConfigError: SEG-X080, this format or precision cannot be written, or not on this engine;
            SEG-X081, a package is missing.
    """
    _refuse(to, form)
    module = importlib.import_module(f"terrazzo_keras.export.{to}_model")
    facts: dict[str, str | int] = module.write(trainer, card, form, folder, calibration)
    return backend.versions() | facts


def open(  # noqa: A001 - the name in `Exporter`
    to: str, folder: Path, card: ModelCard, form: GraphForm
) -> Session:
    """Open a written ``model.keras``; see `Exporter.open`."""
    assert to == "keras", to
    engine = engine_name()
    backends.claim_process(card.backend, engine)
    import_trainer(engine)
    module = importlib.import_module("terrazzo_keras.export.keras_model")
    session: Session = module.KerasSession(folder / "model.keras", form)
    return session


def logits(trainer: KerasTrainer, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return logits B×H×W×K of the model itself, float32, which exported files are held against."""
    return trainer.logits(images_BHWC)


def _refuse(to: str, form: GraphForm) -> None:
    if to not in FORMATS:
        raise ConfigError(
            "SEG-X080",
            f"a Keras model cannot be written as {to!r}",
            observed=to,
            allowed=", ".join(FORMATS),
            next_step="choose one of these formats",
        )
    engine = engine_name()
    if engine != "tensorflow" and to not in _ANY_ENGINE:
        raise ConfigError(
            "SEG-X080",
            f"a Keras model on {engine} cannot be written as {to!r}: its exporters either fail or "
            "fix the size of the images",
            observed=f"KERAS_BACKEND={engine}",
            allowed=f"{', '.join(_ANY_ENGINE)} on {engine}; {', '.join(FORMATS)} on tensorflow",
            next_step="set KERAS_BACKEND=tensorflow: a run trained on any engine loads there",
        )
    if form.precision not in _PRECISIONS[to]:
        raise ConfigError(
            "SEG-X080",
            f"{to} is not written in {form.precision} from Keras",
            observed=form.precision,
            allowed=", ".join(_PRECISIONS[to]),
            next_step="choose one of these precisions",
        )
