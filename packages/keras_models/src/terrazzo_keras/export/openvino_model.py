"""OpenVINO: ``model.xml`` and ``model.bin``, from TensorFlow without a file in between."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.models import openvino_conversion, runtimes
from terrazzo.models.exporter import LABELS
from terrazzo_keras.export.graph import graph, graph_function

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_keras.trainer import KerasTrainer


def write(
    trainer: KerasTrainer,
    card: ModelCard,
    form: GraphForm,
    folder: Path,
    calibration: Iterable[NDArray[np.generic]] | None,  # noqa: ARG001 - as the other formats
) -> dict[str, str | int]:
    """Write ``model.xml`` and ``model.bin``, whose weights are float32 or float16.

    Raises:
        ConfigError: SEG-X081, OpenVINO is not installed.
    """
    runtimes.require("openvino")
    import openvino

    labels = card.label_map.dtype.name if form.labels else None
    function = graph_function(graph(trainer, form), form, labels)
    model = _in_order(openvino_conversion.convert(function.get_concrete_function()), form)
    openvino.save_model(
        model, str(folder / "model.xml"), compress_to_fp16=form.precision == "float16"
    )
    return {"openvino": runtimes.version("openvino")}


def _in_order(model: Any, form: GraphForm) -> Any:
    """Return the model with the scores as its first output; TensorFlow sorts names."""
    import openvino

    names = (form.output, LABELS) if form.labels else (form.output,)
    results = [model.output(name).get_node() for name in names]
    return openvino.Model(results, model.get_parameters(), "terrazzo")
