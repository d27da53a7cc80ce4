"""Keras's own file ``model.keras``, which can be loaded, used and trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

import terrazzo_keras.registered_layers  # noqa: F401 - `load_model` finds them by name
from terrazzo_keras.export.graph import graph

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_keras.trainer import KerasTrainer


def write(
    trainer: KerasTrainer,
    card: ModelCard,  # noqa: ARG001 - as the other formats
    form: GraphForm,
    folder: Path,
    calibration: Iterable[NDArray[np.generic]] | None,  # noqa: ARG001 - as the other formats
) -> dict[str, str | int]:
    """Write ``model.keras``. It has one output: a loss is of the logits."""
    graph(trainer, form).save(folder / "model.keras")
    return {"labels": False, "needs": "import terrazzo_keras.registered_layers"}


class KerasSession:
    """A written file in Keras; see `terrazzo.models.session.Session`."""

    def __init__(self, file: Path, form: GraphForm) -> None:
        self._form = form
        self._models = {form.dtype: keras.models.load_model(file)}
        engine = keras.backend.backend()
        self.device = f"keras {keras.__version__} {engine} float32"
        self.threads = 1

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K."""
        assert self._form.output == "logits"
        return np.array(ops.convert_to_numpy(self._scores(images_BHWC)))

    def probabilities(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, which add up to 1 over K."""
        scores_BHWK = self._scores(images_BHWC)
        if self._form.output == "logits":
            scores_BHWK = ops.softmax(scores_BHWK, axis=-1)
        return np.array(ops.convert_to_numpy(scores_BHWK))

    def labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W."""
        labels_BHW = ops.argmax(self._scores(images_BHWC), axis=-1)
        return np.array(ops.convert_to_numpy(labels_BHW))

    def _scores(self, images_BHWC: NDArray[np.generic]) -> Any:
        dtype = images_BHWC.dtype.name
        if dtype not in self._models:
            dtype = "float32"
            images_BHWC = images_BHWC.astype(dtype)
        if dtype not in self._models:
            self._models[dtype] = _of_dtype(self._models[self._form.dtype], dtype)
        is_channels_first = self._form.layout == "NCHW"
        if is_channels_first:
            images_BHWC = np.ascontiguousarray(images_BHWC.transpose(0, 3, 1, 2))
        scores = self._models[dtype](images_BHWC, training=False)
        return ops.transpose(scores, (0, 2, 3, 1)) if is_channels_first else scores


def _of_dtype(model: keras.Model, dtype: str) -> keras.Model:
    """Return the same layers, from `graph`, for an input of another type.

    Images of whole numbers become float32 where values are missing, which NaN says.
    """
    (image,) = model.inputs
    x = first = keras.Input(image.shape[1:], dtype=dtype)
    for layer in model.layers[1:]:
        x = layer(x)
    return keras.Model(first, x)
