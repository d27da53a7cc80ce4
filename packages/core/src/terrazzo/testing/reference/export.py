"""The model of the backend ``reference`` as an ONNX or OpenVINO file, for tests of exports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.models import openvino_conversion
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import INPUT, LABELS, GraphForm
from terrazzo.models.session import Session
from terrazzo.testing.reference.trainer import ReferenceTrainer

FORMATS = ("onnx", "openvino")


def write(
    to: str,
    trainer: ReferenceTrainer,
    card: ModelCard,
    form: GraphForm,
    folder: Path,
    calibration: Iterable[NDArray[np.generic]] | None = None,  # noqa: ARG001
) -> dict[str, str | int]:
    """Write ``model.onnx``, or ``model.xml`` and ``model.bin``; see `Exporter.write`.

    Raises:
        ConfigError: SEG-X080, the model looks at neighbours.
    """
    import onnx

    if trainer.state()["weights/kernel"].shape[0] != len(card.bands):
        raise ConfigError(
            "SEG-X080",
            "a pixel_softmax of neighbourhoods has no exporter",
            observed="model.options.features",
            allowed='features = "colour"',
        )
    model = _model(trainer, card, form)
    onnx.checker.check_model(model)
    if to == "onnx":
        onnx.save(model, folder / "model.onnx")
    else:
        import openvino

        file = folder / "model.onnx"
        onnx.save(model, file)
        openvino.save_model(
            openvino_conversion.convert(str(file)),
            folder / "model.xml",
            compress_to_fp16=form.precision == "float16",
        )
        file.unlink()
    return {"opset": form.opset, "onnx": onnx.__version__}


def open(  # noqa: A001 - the name in `Exporter`
    to: str, folder: Path, card: ModelCard, form: GraphForm
) -> Session:
    """There is no format that NumPy reads."""
    raise NotImplementedError(to, folder, card, form)


def logits(trainer: ReferenceTrainer, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return logits B×H×W×K of the model itself."""
    return trainer.logits(images_BHWC)


def _model(trainer: ReferenceTrainer, card: ModelCard, form: GraphForm) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    types = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in _DTYPES}
    state = trainer.state()
    constants = {
        "mean": np.array(card.bands.mean, np.float32),
        "std": np.array(card.bands.std, np.float32),
        "kernel": state["weights/kernel"],
        "bias": state["weights/bias"],
        "zero": np.zeros((), np.float32),
    }
    first = form.output
    softmax = helper.make_node("Softmax", ["scores"], ["last"], axis=3)
    nodes = [
        helper.make_node("Transpose", [INPUT], ["rows"], perm=(0, 2, 3, 1))
        if form.layout == "NCHW"
        else helper.make_node("Identity", [INPUT], ["rows"]),
        helper.make_node("Cast", ["rows"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["values", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("IsNaN", ["scaled"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "scaled"], ["features"]),
        helper.make_node("MatMul", ["features", "kernel"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["scores"]),
        softmax if first == "probabilities" else helper.make_node("Identity", ["scores"], ["last"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=3, keepdims=0),
        helper.make_node("Cast", ["best"], [LABELS], to=types[card.label_map.dtype.name]),
    ]
    if form.layout == "NCHW":
        nodes.append(helper.make_node("Transpose", ["last"], [first], perm=(0, 3, 1, 2)))
    else:
        nodes.append(helper.make_node("Identity", ["last"], [first]))
    sides = form.size or ("height", "width")
    bands, classes = len(card.bands), len(card.label_map)
    shapes = {
        count: ("batch", *sides, count) if form.layout == "NHWC" else ("batch", count, *sides)
        for count in (bands, classes)
    }
    graph = helper.make_graph(
        nodes,
        "pixel_softmax",
        [helper.make_tensor_value_info(INPUT, types[form.dtype], shapes[bands])],
        [
            helper.make_tensor_value_info(first, TensorProto.FLOAT, shapes[classes]),
            helper.make_tensor_value_info(
                LABELS, types[card.label_map.dtype.name], ("batch", *sides)
            ),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", form.opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


_DTYPES = ("uint8", "uint16", "float32")
