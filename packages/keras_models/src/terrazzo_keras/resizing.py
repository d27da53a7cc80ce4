"""Doubling by bilinear interpolation, for pictures of any size."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


class DoubleBilinear(keras.layers.Layer):
    """Double height and width as PyTorch does without ``align_corners``.

    `keras.layers.UpSampling2D` does the same, but under TensorFlow only for sizes that are known
    when the graph is made. At a factor of two each new pixel is ¾ of the nearest old one and ¼ of
    the next; beyond the edge the outermost pixel repeats.
    """

    def call(self, maps_BHWC: Any) -> Any:
        """Return B×2H×2W×C."""
        return _doubled(_doubled(maps_BHWC, 1), 2)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Double height and width."""
        batch, height, width, channels = input_shape
        return (batch, height and 2 * height, width and 2 * width, channels)


def _doubled(maps_BHWC: Any, axis: int) -> Any:
    """Return maps with twice the rows (axis 1) or columns (axis 2)."""
    first, last, before, after = ((slice(None),) * axis + (cut,) for cut in _CUTS)
    previous = ops.concatenate([maps_BHWC[first], maps_BHWC[before]], axis)
    following = ops.concatenate([maps_BHWC[after], maps_BHWC[last]], axis)
    pairs = ops.stack(
        [0.25 * previous + 0.75 * maps_BHWC, 0.75 * maps_BHWC + 0.25 * following], axis + 1
    )
    size = list(ops.shape(maps_BHWC))
    size[axis] = 2 * size[axis]
    return ops.reshape(pairs, size)


_CUTS = (slice(None, 1), slice(-1, None), slice(None, -1), slice(1, None))
