"""Pixels as image files hold them, brought to what the networks take: one owner for all graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


def normalized(images_BHWC: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Return float32 B×H×W×C in units of each band's deviation; NaN becomes the mean.

    Args:
        images_BHWC: of any type of number.
        mean: of each of the C bands, in the files' units.
        std: likewise.
    """
    mean_C, std_C = (ops.convert_to_tensor(numbers, "float32") for numbers in (mean, std))
    is_whole_numbers = "int" in keras.backend.standardize_dtype(images_BHWC.dtype)
    normalized_BHWC = (ops.cast(images_BHWC, "float32") - mean_C) / std_C
    if is_whole_numbers:
        return normalized_BHWC
    # Not ops.isnan: LiteRT's converter takes it for x ≠ x, and that for false.
    is_number_BHWC = ops.logical_or(normalized_BHWC >= 0, normalized_BHWC < 0)
    # A pixel without data says nothing: it becomes the mean colour.
    return ops.where(is_number_BHWC, normalized_BHWC, 0.0)


@keras.saving.register_keras_serializable(package="terrazzo")
class NormalizePixels(keras.layers.Layer):
    """What the trainer does before the network, as the first layer of a graph."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        # No cast: bfloat16 has too few digits for 16-bit pixels.
        super().__init__(autocast=False, **kwargs)
        self.mean, self.std = [*map(float, mean)], [*map(float, std)]

    def call(self, images_BHWC: Any) -> Any:
        """Return float32 B×H×W×C."""
        return normalized(images_BHWC, self.mean, self.std)

    def compute_output_spec(self, images_BHWC: Any) -> Any:
        """Change the type alone."""
        return keras.KerasTensor(images_BHWC.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same layer again."""
        return super().get_config() | {"mean": self.mean, "std": self.std}
