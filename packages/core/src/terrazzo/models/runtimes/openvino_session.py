"""OpenVINO: the fastest runtime on most processors.

Its defaults are not ours: where the processor has bfloat16 it would compute float32 models in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.models import runtimes
from terrazzo.models.exporter import GraphForm
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.models.runtimes.arrays import as_input, best_class, channels_last

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoSession:
    """A model in OpenVINO's intermediate representation; see `runtimes.open_session`."""

    def __init__(
        self,
        file: Path,
        form: GraphForm,
        precision: ComputePrecision,
        fixed_size: tuple[int, int] | None,
    ) -> None:
        import openvino

        self._openvino: Any = openvino
        self._core = openvino.Core()
        if precision == "bfloat16":
            able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if "BF16" not in able:
                raise runtimes.refuse_precision(
                    "openvino",
                    precision,
                    f"a processor with {', '.join(sorted(able))} and without bfloat16",
                )
        self._model = self._core.read_model(str(file))
        self._form, self._fixed_size = form, fixed_size
        self.threads = runtimes.threads()
        self.device = f"cpu openvino {runtimes.version('openvino')} {precision}"
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
        }
        self._compiled: dict[tuple[str, str, tuple[int, ...]], Any] = {}

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K."""
        return channels_last(self._run("logits", images_BHWC), self._form)

    def probabilities(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, which add up to 1 over K."""
        return channels_last(self._run("probabilities", images_BHWC), self._form)

    def labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W."""
        if not self._form.labels:
            return best_class(self.probabilities(images_BHWC))
        labels_BHW: NDArray[np.integer] = self._run("labels", images_BHWC)
        return labels_BHW

    def _run(self, what: str, images_BHWC: NDArray[np.generic]) -> Any:
        image = as_input(images_BHWC, self._form)
        # Prepared for one size it is faster; which images are is fixed by their size alone, so
        # that the result is, too.
        fixed = image.shape if images_BHWC.shape[1:3] == self._fixed_size else ()
        key = (what, image.dtype.name, fixed)
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)
        return self._compiled[key](image)[0].copy()

    def _compile(self, what: str, dtype: str, fixed: tuple[int, ...]) -> Any:
        """Compile what leads to one output, for images of one dtype."""
        opset = self._openvino.opset13
        model = self._model.clone()
        (image,) = model.get_parameters()
        image.set_element_type(self._openvino.Type(np.dtype(dtype)))
        if what in (self._form.output, "labels"):
            result = model.output(what).get_node()
        else:
            assert (what, self._form.output) == ("probabilities", "logits")
            scores = model.output("logits").get_node().input_value(0)
            axis = 3 if self._form.layout == "NHWC" else 1
            result = opset.result(opset.softmax(scores, axis))
        model = self._openvino.Model([result], [image], "terrazzo")
        model.validate_nodes_and_infer_types()
        if fixed:
            model.reshape(list(fixed))
        return self._core.compile_model(model, "CPU", self._config)


def open_session(
    file: Path,
    form: GraphForm,
    *,
    precision: ComputePrecision,
    fixed_size: tuple[int, int] | None,
) -> OpenVinoSession:
    """Open ``model.xml``; see `runtimes.open_session`."""
    return OpenVinoSession(file, form, precision, fixed_size)
