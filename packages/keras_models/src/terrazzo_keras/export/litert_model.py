"""LiteRT, formerly TensorFlow Lite: ``model.tflite``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from terrazzo_keras.export.graph import graph, graph_function

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_keras.trainer import KerasTrainer


def write(
    trainer: KerasTrainer,
    card: ModelCard,  # noqa: ARG001 - as the other formats
    form: GraphForm,
    folder: Path,
    calibration: Iterable[NDArray[np.generic]] | None,
) -> dict[str, str | int]:
    """Write ``model.tflite``, of LiteRT's own operations alone.

    It has no labels: an argmax of 64-bit numbers would need TensorFlow's operations beside.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    function = graph_function(graph(trainer, form), form).get_concrete_function()
    # Weights as constants: variables would be read as zeros, and nothing said.
    frozen = convert_variables_to_constants_v2(function)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
    if form.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form.precision == "int8":
        assert calibration is not None
        converter.representative_dataset = lambda: _samples(calibration, form)
    (folder / "model.tflite").write_bytes(converter.convert())
    return {"labels": False}


def _samples(
    images: Iterable[NDArray[np.generic]], form: GraphForm
) -> Iterator[list[NDArray[np.generic]]]:
    for images_BHWC in images:
        image = images_BHWC.transpose(0, 3, 1, 2) if form.layout == "NCHW" else images_BHWC
        yield [np.ascontiguousarray(image, form.dtype)]
