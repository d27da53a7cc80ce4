"""The ONNX file of an export, and running it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.export_clients.order import ClientOrder
from terrazzo.models import runtimes
from terrazzo.models.exporter import INPUT, GraphForm

FILE = "model.onnx"


def write_graph(order: ClientOrder, form: GraphForm, folder: Path) -> Path:
    """Write ``model.onnx`` in a form, and return its path."""
    order.exporter.write("onnx", order.trainer, order.card, form, folder)
    return folder / FILE


def annotate(path: Path, values: Mapping[str, object], *, ir_version: int | None = None) -> None:
    """Add metadata to an ONNX file, each value as JSON.

    Args:
        path: of the file.
        values: by their key.
        ir_version: that older readers know; None: as it is.
    """
    onnx = importlib.import_module("onnx")
    model = onnx.load(path)
    props = {each.key: each.value for each in model.metadata_props}
    props.update({key: json.dumps(value) for key, value in values.items()})
    onnx.helper.set_model_props(model, props)
    if ir_version is not None:
        model.ir_version = min(model.ir_version, ir_version)
    onnx.save(model, path)


def opset_of(path: Path) -> int:
    """Return the version of ONNX's own operators in a file."""
    model = importlib.import_module("onnx").load(path)
    return int(next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx")))


class GraphSession:
    """An ONNX file in ONNX Runtime, in float32 on the CPU.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = runtimes.threads()
        options.log_severity_level = 3  # its warnings are about the graph
        self._session = runtime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What `annotate` has added; values that are no JSON are left out."""
        found = {}
        for key, text in self._session.get_modelmeta().custom_metadata_map.items():
            try:
                found[key] = json.loads(text)
            except json.JSONDecodeError:
                continue
        return found

    @property
    def input_shape(self) -> list[Any]:
        """Of the image: numbers, and names where any will do."""
        return list(self._session.get_inputs()[0].shape)

    def run(self, image: NDArray[np.generic]) -> dict[str, NDArray[Any]]:
        """Return the outputs by their names."""
        names = [each.name for each in self._session.get_outputs()]
        outputs = self._session.run(names, {INPUT: np.ascontiguousarray(image)})
        return dict(zip(names, outputs, strict=True))
