"""A model of MLflow's kind ``python_function`` around an ONNX file of Terrazzo.

MLflow runs this file by itself when it loads or serves the model: it needs NumPy, onnxruntime and
MLflow, and nothing of Terrazzo. In a written model the lines that make it known to MLflow follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class SegmentationModel:
    """Images as their files hold them in, labels out."""

    def load_context(self, context: Any) -> None:
        """Open the ONNX file."""
        import onnxruntime

        self._session = onnxruntime.InferenceSession(
            context.artifacts["model"], providers=["CPUExecutionProvider"]
        )

    # The bare type: MLflow takes any other hint for a schema, which the signature is.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:  # noqa: ARG002
        """Return labels of images.

        Args:
            context: of MLflow.
            model_input: batch×rows×columns×bands, in the type of the files.
            params: ``probabilities``: whether these are asked for, too.

        Returns:
            Labels batch×rows×columns; or a dictionary of ``labels`` and ``probabilities``
            batch×rows×columns×classes.
        """
        images_BHWC = np.ascontiguousarray(model_input)
        names = ["labels", "probabilities"]
        wanted = names if (params or {}).get("probabilities") else names[:1]
        outputs = self._session.run(wanted, {"image": images_BHWC})
        return outputs[0] if len(wanted) == 1 else dict(zip(names, outputs, strict=True))
