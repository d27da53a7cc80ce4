"""Enlarging by bilinear interpolation, for images of any size."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="terrazzo")
class UpsampleBilinear(keras.layers.Layer):
    """Multiply height and width by a whole number as PyTorch does without ``align_corners``.

    `keras.layers.UpSampling2D` does the same, but under TensorFlow only for sizes that are known
    when the graph is made. Of the `factor` new pixels in each old one, those before its middle are
    a mean of it and the one before, the others of it and the one after, weighted by distance;
    beyond the edge the outermost pixel repeats. Slices and sums alone, so the gradient is the same
    at every run, on a GPU too.
    """

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same layer again."""
        return super().get_config() | {"factor": self.factor}

    def call(self, maps_BHWC: Any) -> Any:
        """Return B×factor·H×factor·W×C."""
        return _enlarged(_enlarged(maps_BHWC, self.factor, 1), self.factor, 2)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Multiply height and width."""
        batch, height, width, channels = input_shape
        return (batch, height and self.factor * height, width and self.factor * width, channels)


@keras.saving.register_keras_serializable(package="terrazzo")
class SpreadOver(keras.layers.Layer):
    """Repeat the one pixel of the first input over the height and width of the second."""

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """Return B×H×W×C from B×1×1×C and B×H×W×any."""
        pixel_B11C, grid_BHWC = inputs
        return pixel_B11C + ops.zeros_like(grid_BHWC[..., :1])

    def compute_output_shape(self, input_shape: tuple[Shape, Shape]) -> Shape:
        """Batch and channels of the first, height and width of the second."""
        pixel, grid = input_shape
        return (pixel[0], grid[1], grid[2], pixel[3])


def _enlarged(maps_BHWC: Any, factor: int, axis: int) -> Any:
    """Return maps with `factor` times the rows (axis 1) or columns (axis 2)."""
    first, last, before, after = ((slice(None),) * axis + (cut,) for cut in _CUTS)
    previous = ops.concatenate([maps_BHWC[first], maps_BHWC[before]], axis)
    following = ops.concatenate([maps_BHWC[after], maps_BHWC[last]], axis)
    parts = []
    for number in range(factor):
        # From the middle of the old pixel to that of the new one, in old pixels.
        offset = (number + 0.5) / factor - 0.5
        neighbour = previous if offset < 0 else following
        parts.append((1 - abs(offset)) * maps_BHWC + abs(offset) * neighbour)
    size = list(ops.shape(maps_BHWC))
    size[axis] = factor * size[axis]
    return ops.reshape(ops.stack(parts, axis + 1), size)


_CUTS = (slice(None, 1), slice(-1, None), slice(None, -1), slice(1, None))
