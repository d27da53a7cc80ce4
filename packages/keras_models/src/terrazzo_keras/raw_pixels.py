"""Pixels as image files hold them, brought to what the networks take: one owner for all graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def normalized(images: Any, mean: Sequence[float], std: Sequence[float], axis: int = -1) -> Any:
    """Return float32 images in units of each band's deviation; NaN becomes the mean.

    Args:
        images: B×H×W×C or B×C×H×W, of any type of number.
        mean: of each of the C bands, in the files' units.
        std: likewise.
        axis: of the bands: 1 or -1.
    """
    shape = (-1, 1, 1) if axis == 1 else (-1,)
    of_bands = [ops.convert_to_tensor(numbers, "float32") for numbers in (mean, std)]
    mean_C, std_C = (ops.reshape(numbers, shape) for numbers in of_bands)
    standard = (ops.cast(images, "float32") - mean_C) / std_C
    # A pixel without data says nothing: it becomes the mean colour.
    # Also where images are of whole numbers: a runtime may be given their graph for float32 ones.
    return ops.where(ops.isnan(standard), 0.0, standard)


@keras.saving.register_keras_serializable(package="terrazzo")
class NormalizePixels(keras.layers.Layer):
    """What the trainer does before the network, as the first layer of a graph."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], axis: int = -1, **kwargs: Any
    ) -> None:
        # No cast: bfloat16 has too few digits for 16-bit pixels.
        super().__init__(autocast=False, **kwargs)
        self.mean, self.std = [*map(float, mean)], [*map(float, std)]
        self.axis = axis

    def call(self, images: Any) -> Any:
        """Return float32 images."""
        return normalized(images, self.mean, self.std, self.axis)

    def compute_output_spec(self, images: Any) -> Any:
        """Change the type alone."""
        return keras.KerasTensor(images.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same layer again."""
        return super().get_config() | {
            "mean": self.mean,
            "std": self.std,
            "axis": self.axis,
        }
