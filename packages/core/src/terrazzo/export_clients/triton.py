"""Triton Inference Server: a model repository with one model.

Source: its documentation of model repositories and of the model configuration; the configuration
is a text of the protocol buffer ``ModelConfig``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.export_clients.graph_file import FILE, GraphSession, write_graph
from terrazzo.export_clients.order import ClientOrder
from terrazzo.export_clients.readme import size_limits, value_limits, write_readme
from terrazzo.export_clients.verification import Agreement, Answer, require_agreement, sized_images
from terrazzo.models.exporter import INPUT, LABELS, GraphForm, Output

OPTIONS: frozenset[str] = frozenset()
CONFIG = "config.pbtxt"
_MOST_IMAGES = 8
_VERSION = "1"
_SCORES: Output = "probabilities"
_TYPES = {"uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "float32": "TYPE_FP32"}


def check(order: ClientOrder) -> None:
    """Refuse nothing: every model will do."""


def form(order: ClientOrder) -> GraphForm:
    """Return the form of the graph."""
    return GraphForm(order.card.bands.dtype, "NCHW", output=_SCORES, size=order.card.image_size)


def write(order: ClientOrder, folder: Path) -> tuple[str, ...]:
    """Write a model repository: ``NAME/config.pbtxt`` and ``NAME/1/model.onnx``."""
    model = folder / order.name
    (model / _VERSION).mkdir(parents=True)
    write_graph(order, form(order), model / _VERSION)
    (model / CONFIG).write_text(_config(order), encoding="utf-8")
    limits = (
        f"images go in as files hold them, {order.card.bands.dtype} batch×bands×rows×columns: "
        "not divided by 255, not normalised",
        f"images of one request have one size; at most {_MOST_IMAGES} a batch",
        f"ask for {LABELS} alone where that will do: {_SCORES} are {len(order.card.label_map)} "
        "floats a pixel",
        "the configuration is for the ONNX Runtime of Triton on one instance; add instance groups "
        "and dynamic batching to suit your machine",
        *size_limits(order),
        *value_limits(order, missing_inside=True),
    )
    steps = (
        "Copy this folder to where the server runs.",
        "`tritonserver --model-repository=FOLDER`",
        f"Ask `POST /v2/models/{order.name}/infer` with the input `{INPUT}`.",
    )
    write_readme(order, folder, "Triton Inference Server", steps, limits)
    return limits


def _config(order: ClientOrder) -> str:
    card = order.card
    rows, columns = card.image_size or (-1, -1)
    tensors = {
        "input": [(INPUT, card.bands.dtype, [len(card.bands), rows, columns])],
        "output": [
            (_SCORES, "float32", [len(card.label_map), rows, columns]),
            (LABELS, card.label_map.dtype.name, [rows, columns]),
        ],
    }
    parameters = {
        "classes": json.dumps(list(card.label_map.names)),
        "bands": json.dumps(list(card.bands.names)),
        "run": order.run,
        "weights_sha256": order.digest,
    }
    lines = [
        f"name: {_text(order.name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {_MOST_IMAGES}",
    ]
    for kind, each in tensors.items():
        for name, dtype, dims in each:
            lines.append(
                f"{kind} [{{ name: {_text(name)} data_type: {_TYPES[dtype]} dims: {dims} }}]"
            )
    lines += [
        f"parameters {{ key: {_text(key)} value: {{ string_value: {_text(value)} }} }}"
        for key, value in parameters.items()
    ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Return a string of the text format: bytes that are not ASCII in octal."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    letters = (
        chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in escaped.encode("utf-8")
    )
    return f'"{"".join(letters)}"'


def verify(order: ClientOrder, folder: Path) -> Agreement:
    """Hold what the server will compute against the model.

    Raises:
        CheckpointError: SEG-C070, they differ.
    """
    program = Program(folder / order.name)
    return require_agreement("triton", order, sized_images(order), program)


class Program:
    """What the server does with a request.

    Args:
        model: folder of the model in the repository.
    """

    def __init__(self, model: Path) -> None:
        self._session = GraphSession(model / _VERSION / FILE)

    def __call__(self, images_BHWC: NDArray[np.generic]) -> Answer:
        """Return labels and probabilities."""
        outputs = self._session.run(images_BHWC.transpose(0, 3, 1, 2))
        return outputs[LABELS], outputs[_SCORES].transpose(0, 2, 3, 1)
