"""Dropout that repeats itself on every engine."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class Dropout(keras.layers.Layer):
    """Set a random share of all values to 0 while training, and scale the others up.

    `keras.layers.Dropout` draws from PyTorch's own stream on that engine and not from its seed, so
    that a resumed run would go another way. Srivastava et al., "Dropout", 2014.
    """

    def __init__(self, rate: float, *, name: str) -> None:
        super().__init__(name=name)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the values that remain, or all of them when predicting."""
        if not training or self.rate == 0:
            return inputs
        drawn = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator)
        return ops.where(drawn < self.rate, ops.zeros_like(inputs), inputs / (1 - self.rate))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Keep the shape."""
        return input_shape
