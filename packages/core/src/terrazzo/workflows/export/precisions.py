"""ONNX files in float16 and int8, and OpenVINO's form of them.

What comes before the first layer with weights stays float32: raw values of 16 bits do not fit into
float16, and a scale of 8 bits for them would leave nothing of what normalisation is for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.models import openvino_conversion
from terrazzo.models.exporter import INPUT, GraphForm
from terrazzo.models.runtimes.arrays import as_input

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def to_float16(file: Path) -> None:
    """Turn weights and arithmetic of an ONNX file to float16, in place; inputs and outputs stay."""
    import onnx
    from onnxruntime.transformers import float16

    model = onnx.load(str(file))
    converted = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        # Sizes and positions are computed exactly (some exporters do it in float32, and float16
        # has not even 2049), and sums over many values keep their digits.
        node_block_list=[*_unweighted(model.graph), *_of_sizes(model.graph)],
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, "Resize", "Upsample", "ArgMax", "Softmax"],
    )
    _skip_detours(converted.graph)
    onnx.save(converted, str(file))


def _skip_detours(graph: Any) -> None:
    """Give each node that stays float32 what the one before it has computed.

    The converter casts all it leaves alone to float16 and back, one by one: values of 16 bits
    would be lost in between.
    """
    import onnx

    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    kinds = {name: node.attribute[0].i for name, node in casts.items()}
    for name, node in casts.items():
        (source,) = node.input
        if (kinds[name], kinds.get(source)) == (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            node.input[0] = casts[source].input[0]


def to_int8(file: Path, form: GraphForm, calibration: Iterable[NDArray[np.generic]]) -> None:
    """Quantise an ONNX file in place: 8-bit weights a channel, ranges of activations by images.

    Args:
        file: of float32.
        form: of its graph.
        calibration: images 1×H×W×C of training, as their files have them.
    """
    import onnx

    model = onnx.load(str(file))
    result = file.with_name("quantized.onnx")
    # It logs advice on simplifying the graph first, which the exporters have done.
    logging.getLogger().addFilter(_no_advice)
    try:
        _quantize(model, result, form, calibration)
    finally:
        logging.getLogger().removeFilter(_no_advice)
    result.replace(file)


def _no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()


def _quantize(
    model: Any, result: Path, form: GraphForm, calibration: Iterable[NDArray[np.generic]]
) -> None:
    from onnxruntime import quantization

    quantization.quantize_static(
        model,
        str(result),
        _Calibration(calibration, form),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        nodes_to_exclude=_unweighted(model.graph),
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )


class _Calibration:
    """Images one after the other, in the form that ONNX Runtime's quantisation asks for."""

    def __init__(self, images: Iterable[NDArray[np.generic]], form: GraphForm) -> None:
        self._images: Iterator[NDArray[np.generic]] = iter(images)
        self._form = form

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        images_BHWC = next(self._images, None)
        if images_BHWC is None:
            return None
        return {INPUT: as_input(images_BHWC, self._form).astype(self._form.dtype)}


def _unweighted(graph: Any) -> list[str]:
    """Return the names of the nodes that come before any layer with weights; all get one."""
    before = {INPUT}
    names = []
    for number, node in enumerate(graph.node):  # in the order of computation
        node.name = node.name or f"node_{number}"
        if node.op_type in _WEIGHTED or not before.intersection(node.input):
            continue
        before.update(node.output)
        names.append(node.name)
    return names


def _of_sizes(graph: Any) -> list[str]:
    """Return the names of the nodes that compute with sizes alone: from shapes and constants."""
    constants = {each.name for each in graph.initializer} | {""}
    sizes: set[str] = set()
    names = []
    for node in graph.node:  # in the order of computation
        if node.op_type == "Constant":
            constants.update(node.output)
        elif node.op_type == "Shape" or (
            sizes.intersection(node.input) and not (set(node.input) - sizes - constants)
        ):
            sizes.update(node.output)
            names.append(node.name)
    return names


def openvino_from_onnx(file: Path, folder: Path) -> None:
    """Write ``model.xml`` and ``model.bin`` of an ONNX file, which goes."""
    import openvino

    openvino.save_model(
        openvino_conversion.convert(str(file)), str(folder / "model.xml"), compress_to_fp16=False
    )
    file.unlink()
