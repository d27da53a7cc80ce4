"""Trained networks in the formats of other runtimes; see `terrazzo.models.exporter.Exporter`.

Imports no framework.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.models import backends

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo.models.session import Session
    from terrazzo_torch.trainer import TorchTrainer

FORMATS = ("onnx", "openvino", "torch", "huggingface")
CLIENT_FORMATS = ("torchscript",)
"""Formats for programs alone (`terrazzo.export_clients`), and not for runtimes of ours."""


def write(
    to: str,
    trainer: TorchTrainer,
    card: ModelCard,
    form: GraphForm,
    folder: Path,
    calibration: Iterable[NDArray[np.generic]] | None = None,  # noqa: ARG001
) -> dict[str, str | int]:
    """Write the files of a format; see `Exporter.write`.

    Raises:
        ConfigError: SEG-X080, this format, model or precision cannot be written.
    """
    if to == "openvino":
        from terrazzo_torch.export import openvino_model

        return openvino_model.write(trainer, card, form, folder)
    if to == "onnx":
        from terrazzo_torch.export import onnx_model

        return onnx_model.write(trainer, card, form, folder)
    if to == "torch":
        from terrazzo_torch.export import program

        return program.write(trainer, card, form, folder)
    if to == "torchscript":
        from terrazzo_torch.export import torchscript

        return torchscript.write(trainer, card, form, folder)
    if to == "huggingface":
        from terrazzo_torch.export import hugging_face

        return hugging_face.write(trainer, card, form, folder)
    raise ConfigError(
        "SEG-X080",
        f"a PyTorch model cannot be written as {to!r}",
        observed=to,
        allowed=", ".join(FORMATS),
        next_step="choose one of these formats",
    )


def open(  # noqa: A001 - the name in `Exporter`
    to: str, folder: Path, card: ModelCard, form: GraphForm
) -> Session:
    """Open a written ``torch`` or ``huggingface`` folder; see `Exporter.open`."""
    assert to in ("torch", "huggingface"), to
    backends.claim_process("torch", "torch")
    from terrazzo_torch.export import session

    if to == "torch":
        return session.open_program(folder, form)
    return session.open_hugging_face(folder, card, form)


def model_card(card: ModelCard, scores: Mapping[str, Any] | None = None) -> str:
    """Return the ``README.md`` of a Hugging Face folder; see `hub_page.model_card`."""
    from terrazzo_torch.export import hub_page

    return hub_page.model_card(card, scores)


def logits(trainer: TorchTrainer, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return logits B×H×W×K of the model itself, float32, which exported files are held against."""
    return trainer.logits(images_BHWC)
