"""ONNX files in float16 and int8, and OpenVINO's form of them.

What comes before the first layer with weights stays float32: raw values of 16 bits do not fit into
float16, and a scale of 8 bits for them would leave nothing of what normalisation is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        node_block_list=_unweighted(model.graph),
        # Sizes and positions are computed exactly, and sums over many values keep their digits.
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, "Resize", "Upsample", "ArgMax", "Softmax"],
    )
    onnx.save(converted, str(file))


def to_int8(file: Path, form: GraphForm, calibration: Iterable[NDArray[np.generic]]) -> None:
    """Quantise an ONNX file in place: 8-bit weights a channel, ranges of activations by images.

    Args:
        file: of float32.
        form: of its graph.
        calibration: images 1×H×W×C of training, as their files have them.
    """
    import onnx
    from onnxruntime import quantization

    model = onnx.load(str(file))
    result = file.with_name("quantized.onnx")
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
    result.replace(file)


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
    """Return the names of the nodes that come before any layer with weights."""
    before = {INPUT}
    names = []
    for node in graph.node:  # in the order of computation
        if node.op_type in _WEIGHTED or not before.intersection(node.input):
            continue
        before.update(node.output)
        names.append(node.name)
    return names


def openvino_from_onnx(file: Path, folder: Path) -> None:
    """Write ``model.xml`` and ``model.bin`` of an ONNX file, which goes."""
    import openvino

    openvino.save_model(
        openvino.convert_model(str(file)), str(folder / "model.xml"), compress_to_fp16=False
    )
    file.unlink()
