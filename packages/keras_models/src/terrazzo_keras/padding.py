"""Any height and width: pad inside the model, crop back, and never shift a pixel."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="terrazzo")
class PadToMultiple(keras.layers.Layer):
    """Pad images by repeating their outermost rows and columns.

    Rows and columns are first filled up to the next multiple of `multiple`, at the bottom and
    right, so that pixel (0, 0) stays the corner of every coarser grid. Then come `before` more at
    the top and left and `after` more at the bottom and right.
    """

    def __init__(self, multiple: int, *, before: int = 0, after: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple, self.before, self.after = multiple, before, after

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same layer again."""
        own = {"multiple": self.multiple, "before": self.before, "after": self.after}
        return super().get_config() | own

    def call(self, images_BHWC: Any) -> Any:
        """Return the padded images."""
        for axis in (1, 2):
            size = ops.shape(images_BHWC)[axis]
            # Not ops.pad: TensorFlow's has no mode that repeats the edge.
            source = ops.arange(-self.before, self._end(size), dtype="int32")
            images_BHWC = ops.take(images_BHWC, ops.clip(source, 0, size - 1), axis=axis)
        return images_BHWC

    def _end(self, size: Any) -> Any:
        # Not ``-size % multiple``: some exported graphs round its quotient towards 0.
        return (size + self.multiple - 1) // self.multiple * self.multiple + self.after

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Keep batch and channels."""
        batch, height, width, channels = input_shape
        return (batch, self._padded(height), self._padded(width), channels)

    def _padded(self, size: int | None) -> int | None:
        return None if size is None else self.before + int(self._end(size))


@keras.saving.register_keras_serializable(package="terrazzo")
class CropTo(keras.layers.Layer):
    """Cut rows and columns `start`… of the first input to the height and width of the second."""

    def __init__(self, start: int = 0, **kwargs: Any) -> None:
        # No cast: float32 logits go through it as well, whatever the policy.
        super().__init__(autocast=False, **kwargs)
        self.start = start

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same layer again."""
        return super().get_config() | {"start": self.start}

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Return the part of ``inputs[0]`` that lies on the grid of ``inputs[1]``."""
        features_BHWC, grid_BHWC = inputs
        height, width = ops.shape(grid_BHWC)[1:3]
        start = self.start
        return features_BHWC[:, start : start + height, start : start + width]

    def compute_output_spec(self, inputs: tuple[Any, Any]) -> Any:
        """Batch, channels and type of the first, height and width of the second."""
        features_BHWC, grid_BHWC = inputs
        batch, _, _, channels = features_BHWC.shape
        return keras.KerasTensor((batch, *grid_BHWC.shape[1:3], channels), features_BHWC.dtype)
