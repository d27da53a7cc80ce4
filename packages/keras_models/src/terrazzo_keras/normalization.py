"""Batch normalisation in one kernel where the engine has one."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class BatchNormalization(keras.layers.BatchNormalization):
    """As in Keras, over B×H×W, but a single TensorFlow operation while training.

    Keras's own becomes some fifty operations there, gradient included. That is half of the graph of
    InceptionResNetV2, hence half of the wait before its first step, and a quarter of each step of a
    small U-Net. Like PyTorch's, the kernel gives the unbiased variance to the moving statistics.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised maps; while training, also move the statistics."""
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        from terrazzo_keras.engines.tensorflow import batch_normalization

        scale = self.gamma.value if self.scale else ops.ones_like(self.moving_mean)
        outputs, mean, variance = batch_normalization(inputs, scale, self.beta.value, self.epsilon)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * self.momentum + new * (1 - self.momentum))
        return outputs
