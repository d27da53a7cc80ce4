"""Dropout that a resumed run repeats, on every engine."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="terrazzo")
class Dropout(keras.layers.Layer):
    """Set values, or all values of an image, to 0 at random in training; scale up the others.

    `keras.layers.Dropout` does the same, but under PyTorch, where it is given no number as a seed,
    it draws from the process's generator: a checkpoint would not decide what it drops. This one
    draws from its own seed, which the trainer keeps, on every engine.

    Srivastava et al. 2014; with `whole_images`, the stochastic depth of Huang et al. 2016
    (arXiv:1603.09382) for a residual branch.
    """

    def __init__(self, rate: float, *, whole_images: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.whole_images = rate, whole_images
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator()

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same layer again; the seed is a weight."""
        return super().get_config() | {"rate": self.rate, "whole_images": self.whole_images}

    def call(self, maps_BHWC: Any, training: bool = False) -> Any:
        """Return B×H×W×C; of a frozen layer (`trainable` is false) they are the inputs."""
        if not (training and self.trainable and self.rate > 0):
            return maps_BHWC
        shape = ops.shape(maps_BHWC)
        if self.whole_images:
            shape = (shape[0], 1, 1, 1)
        draws = keras.random.uniform(shape, seed=self.seed_generator, dtype="float32")
        scale = 1 / (1 - self.rate) if self.rate < 1 else 0.0
        return maps_BHWC * (ops.cast(draws >= self.rate, maps_BHWC.dtype) * scale)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Change nothing."""
        return input_shape
