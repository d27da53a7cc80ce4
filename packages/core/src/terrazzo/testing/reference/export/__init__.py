"""The reference model as ONNX: what `terrazzo.models.exporter.Exporter` asks of a backend."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.models import openvino_conversion
from terrazzo.models.exporter import INPUT, LABELS, GraphForm
from terrazzo.testing.reference.models import pixel_softmax

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
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
    """Write ``model.onnx``, or ``model.xml`` and ``model.bin`` made from it.

    Raises:
        ConfigError: SEG-X080, another format, or a precision below float32.
    """
    if to not in FORMATS or form.precision != "float32":
        raise ConfigError(
            "SEG-X080",
            f"the reference model cannot be exported to {to} in {form.precision}",
            allowed=f"{' and '.join(FORMATS)} in float32",
        )
    onnx: Any = importlib.import_module("onnx")
    graph = _Graph(onnx, trainer, card, form)
    model = onnx.helper.make_model(
        graph.built(),
        opset_imports=[onnx.helper.make_opsetid("", form.opset)],
        ir_version=10,
        producer_name="terrazzo reference",
    )
    onnx.checker.check_model(model)
    file = folder / "model.onnx"
    onnx.save(model, file)
    if to == "openvino":
        openvino: Any = importlib.import_module("openvino")
        openvino.save_model(
            openvino_conversion.convert(str(file)), folder / "model.xml", compress_to_fp16=False
        )
        file.unlink()
    return {"onnx": onnx.__version__, "opset": form.opset}


def open(  # noqa: A001 - the name in `Exporter`
    to: str, folder: Path, card: ModelCard, form: GraphForm
) -> Session:
    """There is no format that NumPy reads."""
    raise NotImplementedError(to, folder, card, form)


def logits(trainer: ReferenceTrainer, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return logits B×H×W×K of the model itself."""
    return trainer.logits(images_BHWC)


class _Graph:
    """The nodes, each added after those it reads from."""

    def __init__(
        self, onnx: Any, trainer: ReferenceTrainer, card: ModelCard, form: GraphForm
    ) -> None:
        self._onnx, self._card, self._form = onnx, card, form
        self._weights = trainer.state()
        self._options = trainer.options
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def built(self) -> Any:
        """Return the graph."""
        form, helper = self._form, self._onnx.helper
        image = INPUT
        if form.layout == "NHWC":
            image = self._add("Transpose", image, perm=[0, 3, 1, 2])
        scores = self._scores(self._normalised(image))
        first = self._add("Softmax", scores, axis=1) if form.output == "probabilities" else scores
        if form.layout == "NHWC":
            first = self._add("Transpose", first, perm=[0, 2, 3, 1])
        self._nodes.append(helper.make_node("Identity", [first], [form.output]))
        outputs = [self._value(form.output, "float32", len(self._card.label_map))]
        if form.labels:
            best = self._add("ArgMax", scores, axis=1, keepdims=0)
            dtype = self._card.label_map.dtype.name
            self._nodes.append(helper.make_node("Cast", [best], [LABELS], to=self._type(dtype)))
            outputs.append(self._value(LABELS, dtype, None))
        dtype = "float32" if form.normalization == "outside" else form.dtype
        inputs = [self._value(INPUT, dtype, len(self._card.bands))]
        return helper.make_graph(self._nodes, "model", inputs, outputs, self._constants)

    def _normalised(self, image: str) -> str:
        if self._form.normalization == "outside":
            return image
        bands = self._card.bands
        pixels = self._add("Cast", image, to=self._type("float32"))
        mean, std = (
            self._constant(np.array(values, np.float32)[None, :, None, None])
            for values in (bands.mean, bands.std)
        )
        normalised = self._add("Div", self._add("Sub", pixels, mean), std)
        zero = self._constant(np.zeros((), np.float32))
        return self._add("Where", self._add("IsNaN", normalised), zero, normalised)

    def _scores(self, normalised: str) -> str:
        kernel_FK, bias_K = self._weights["weights/kernel"], self._weights["weights/bias"]
        reach = pixel_softmax.REACH if self._options.features == "neighbourhood" else 0
        side = 2 * reach + 1
        kernel_YXCK = kernel_FK.reshape(side, side, -1, kernel_FK.shape[1])
        if reach:
            border = self._constant(np.array([0, 0, reach, reach] * 2, np.int64))
            normalised = self._add("Pad", normalised, border, mode="edge")
        kernel = self._constant(np.ascontiguousarray(kernel_YXCK.transpose(3, 2, 0, 1)))
        return self._add("Conv", normalised, kernel, self._constant(bias_K))

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"value_{len(self._nodes)}"
        self._nodes.append(
            self._onnx.helper.make_node(operator, list(inputs), [output], **attributes)
        )
        return output

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _value(self, name: str, dtype: str, channels: int | None) -> Any:
        rows, columns = self._form.size or ("height", "width")
        shape: list[str | int] = ["batch", rows, columns]
        if channels is not None:
            shape.insert(3 if self._form.layout == "NHWC" else 1, channels)
        return self._onnx.helper.make_tensor_value_info(name, self._type(dtype), shape)

    def _type(self, dtype: str) -> int:
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
