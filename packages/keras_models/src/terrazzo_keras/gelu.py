"""The approximation of GELU that some published networks were trained with."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="terrazzo")
class ApproximateGelu(keras.layers.Layer):
    """GELU by a hyperbolic tangent: Hendrycks and Gimpel, 2016 (arXiv:1606.08415), section 2."""

    def call(self, maps_BHWC: Any) -> Any:
        """Return values of the same shape."""
        return ops.gelu(maps_BHWC, approximate=True)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the input."""
        return input_shape
