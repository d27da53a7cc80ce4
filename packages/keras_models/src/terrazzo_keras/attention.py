"""Attention among the pixels of feature maps, for images of any size."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="terrazzo")
class PixelAttention(keras.layers.Layer):
    """Scaled dot-product attention of the pixels of one map to those of another.

    Vaswani et al.: "Attention Is All You Need", 2017, section 3.2, without the projections: those
    are layers of their own.
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same layer again."""
        return super().get_config() | {"num_heads": self.num_heads}

    def call(self, inputs: tuple[Any, Any, Any]) -> Any:
        """Return B×H×W×C from queries B×H×W×C, keys and values B×h×w×C."""
        attended = ops.dot_product_attention(*(self._heads(maps) for maps in inputs))
        return ops.reshape(attended, ops.shape(inputs[0]))

    def _heads(self, maps_BHWC: Any) -> Any:
        """Return B×pixels×heads×channels of a head."""
        batch, height, width, channels = ops.shape(maps_BHWC)
        of_head = channels // self.num_heads
        return ops.reshape(maps_BHWC, (batch, height * width, self.num_heads, of_head))

    def compute_output_shape(self, input_shape: tuple[Shape, Shape, Shape]) -> Shape:
        """Return the shape of the queries."""
        return input_shape[0]
