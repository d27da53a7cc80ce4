"""ONNX: one file ``model.onnx``, by tf2onnx."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.models.exporter import LABELS
from terrazzo.models.graph_metadata import graph_metadata, name_axes
from terrazzo_keras.export.graph import graph, graph_function

if TYPE_CHECKING:
    import onnx

    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_keras.trainer import KerasTrainer

NEWEST_OPSET = 18
"""That tf2onnx writes."""


def write(
    trainer: KerasTrainer,
    card: ModelCard,
    form: GraphForm,
    folder: Path,
    calibration: Iterable[NDArray[np.generic]] | None,  # noqa: ARG001 - as the other formats
) -> dict[str, str | int]:
    """Write ``model.onnx`` with the operators of `form.opset`, of version 18 at most.

    Raises:
        ConfigError: SEG-X081, tf2onnx is not installed.
    """
    _require_tf2onnx()
    import onnx

    opset = min(form.opset, NEWEST_OPSET)
    model = _converted(graph(trainer, form), form, opset)
    if form.labels:
        _add_labels(model, form, card.label_map.dtype)
    name_axes(model, form)
    model.graph.name = card.model.name
    onnx.helper.set_model_props(model, graph_metadata(card, form))
    # Operators that no runtime knows are found here, not by who opens the file.
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(folder / "model.onnx"))
    return {
        "tf2onnx": metadata.version("tf2onnx"),
        "onnx": metadata.version("onnx"),
        "opset": opset,
        "ir": model.ir_version,
    }


def _require_tf2onnx() -> None:
    missing = [name for name in ("onnx", "tf2onnx") if not importlib.util.find_spec(name)]
    if missing:
        raise ConfigError(
            "SEG-X081",
            "what writes ONNX from TensorFlow is not installed",
            observed=f"no package {', '.join(missing)}",
            next_step="pip install 'terrazzo-keras[export]'",
        )


def _converted(model: keras.Model, form: GraphForm, opset: int) -> onnx.ModelProto:
    import tf2onnx

    function = graph_function(model, form)
    with _quiet():
        converted, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=opset,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
    return converted


def _erfc(context: Any, node: Any, name: str, arguments: Any) -> None:  # noqa: ARG001 - tf2onnx's
    """Write 1 − erf(x): ONNX has no complement, and the exact GELU of Keras is made of it."""
    from tf2onnx import utils

    shapes, dtypes = node.output_shapes, node.output_dtypes
    (x,), result = node.input, node.output
    context.remove_node(node.name)
    one = context.make_const(utils.make_name("one"), np.array(1, np.float32))
    error = context.make_node("Erf", [x], shapes=shapes, dtypes=dtypes)
    context.make_node(
        "Sub", [one.output[0], error.output[0]], outputs=result, shapes=shapes, dtypes=dtypes
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what tf2onnx says of each of its passes."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _add_labels(model: onnx.ModelProto, form: GraphForm, dtype: np.dtype[Any]) -> None:
    """Add the best class of each pixel; TensorFlow's argmax is refused by ONNX Runtime."""
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(dtype)
    axis = 1 if form.layout == "NCHW" else 3
    best = "best_class"
    model.graph.node.extend(
        [
            helper.make_node("ArgMax", [form.output], [best], name=best, axis=axis, keepdims=0),
            helper.make_node("Cast", [best], [LABELS], name=LABELS, to=kind),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info(LABELS, kind, [None, None, None]))
