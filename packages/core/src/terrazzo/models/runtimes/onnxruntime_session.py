"""ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.models import runtimes
from terrazzo.models.exporter import INPUT, LABELS, GraphForm
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.models.runtimes.arrays import as_input, best_class, channels_last, softmax


class OnnxRuntimeSession:
    """A model in ONNX; see `runtimes.open_session`."""

    def __init__(self, file: Path, form: GraphForm, precision: ComputePrecision) -> None:
        if precision != "float32":
            raise runtimes.refuse_precision(
                "onnxruntime", precision, "its kernels for processors are of float32"
            )
        import onnxruntime

        self._onnxruntime: Any = onnxruntime
        self._file, self._form = file, form
        self.threads = runtimes.threads()
        self.device = f"cpu onnxruntime {runtimes.version('onnxruntime')} {precision}"
        self._sessions: dict[str, Any] = {}

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K."""
        assert self._form.output == "logits"
        return self._scores(images_BHWC)

    def probabilities(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, which add up to 1 over K."""
        scores_BHWK = self._scores(images_BHWC)
        return scores_BHWK if self._form.output == "probabilities" else softmax(scores_BHWK)

    def labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W."""
        if not self._form.labels:
            return best_class(self._scores(images_BHWC))
        labels_BHW: NDArray[np.integer] = self._run(LABELS, images_BHWC)
        return labels_BHW

    def _scores(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        return channels_last(self._run(self._form.output, images_BHWC), self._form)

    def _run(self, what: str, images_BHWC: NDArray[np.generic]) -> Any:
        image = as_input(images_BHWC, self._form)
        dtype = image.dtype.name
        if dtype not in self._sessions:
            self._sessions[dtype] = self._session(dtype)
        return self._sessions[dtype].run([what], {INPUT: image})[0]

    def _session(self, dtype: str) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # its warnings are about the graph, not about the data
        return self._onnxruntime.InferenceSession(
            self._content(dtype), options, providers=["CPUExecutionProvider"]
        )

    def _content(self, dtype: str) -> str | bytes:
        """Return the file, or its content with an input of another dtype, which is cast anyway."""
        if dtype == self._form.dtype:
            return str(self._file)
        import onnx

        model = onnx.load(str(self._file))
        (image,) = (each for each in model.graph.input if each.name == INPUT)
        image.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        del model.graph.value_info[:]  # of what lies between, in the dtype of before
        content: bytes = model.SerializeToString()
        return content


def open_session(
    file: Path,
    form: GraphForm,
    *,
    precision: ComputePrecision,
    fixed_size: tuple[int, int] | None,  # noqa: ARG001 - it prepares for no size
) -> OnnxRuntimeSession:
    """Open ``model.onnx``; see `runtimes.open_session`."""
    return OnnxRuntimeSession(file, form, precision)
