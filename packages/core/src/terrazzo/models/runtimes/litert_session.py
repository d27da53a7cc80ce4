"""LiteRT, formerly TensorFlow Lite, on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.models import runtimes
from terrazzo.models.exporter import GraphForm
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.models.runtimes.arrays import as_input, best_class, channels_last, softmax


class LiteRtSession:
    """A ``model.tflite``; see `runtimes.open_session`. It has one output."""

    def __init__(self, file: Path, form: GraphForm, precision: ComputePrecision) -> None:
        if precision != "float32":
            raise runtimes.refuse_precision(
                "litert", precision, "a file has the precision it was written in"
            )
        from ai_edge_litert.interpreter import Interpreter

        self._form = form
        self.threads = runtimes.threads()
        self.device = f"cpu litert {runtimes.version('litert')} {precision}"
        self._interpreter: Any = Interpreter(str(file), num_threads=self.threads)
        (image,), (scores,) = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        self._image, self._scores_at = image["index"], scores["index"]
        self._shape: tuple[int, ...] = ()

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
        return best_class(self._scores(images_BHWC))

    def _scores(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        image = as_input(images_BHWC, self._form)
        if image.dtype.name != self._form.dtype:
            raise DataError(
                "SEG-D019",
                "the exported model takes pixels of another type",
                observed=f"{image.dtype}: values are missing in these images",
                allowed=f"{self._form.dtype}, without missing values",
                next_step="use the run itself, or export it to onnx or openvino",
            )
        if image.shape != self._shape:  # memory is planned for one size
            self._interpreter.resize_tensor_input(self._image, image.shape)
            self._interpreter.allocate_tensors()
            self._shape = image.shape
        self._interpreter.set_tensor(self._image, image)
        self._interpreter.invoke()
        return channels_last(self._interpreter.get_tensor(self._scores_at), self._form)


def open_session(
    file: Path,
    form: GraphForm,
    *,
    precision: ComputePrecision,
    fixed_size: tuple[int, int] | None,  # noqa: ARG001 - it plans for each size it sees
) -> LiteRtSession:
    """Open ``model.tflite``; see `runtimes.open_session`."""
    return LiteRtSession(file, form, precision)
