"""Batch normalisation that is the same on every engine, and one kernel where TensorFlow has it."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

Running = tuple[Any, Any]
"""Running mean and variance of the channels."""


@keras.saving.register_keras_serializable(package="terrazzo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer over B×H×W, with PyTorch's moving variance: the unbiased one.

    Under TensorFlow, Keras's own becomes some fifty operations a layer, gradient included. That is
    half of the graph of InceptionResNetV2, hence half of the wait before its first step.

    One value has no variance. Where the coarsest map of an image is one pixel, and the batch is one
    image, it is normalised as at inference and does not change the statistics, as in
    `terrazzo_torch.batch_norm`.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised maps; while training, also move the statistics."""
        if not (training and self.trainable):
            return super().call(inputs, training=False, mask=mask)
        running = (self.moving_mean.value, self.moving_variance.value)
        scale = self.gamma.value if self.scale else ops.ones_like(running[0])
        normalise = _fused if keras.backend.backend() == "tensorflow" else _composed
        outputs, mean, variance, is_single = normalise(
            inputs, scale, self.beta.value, running, self.epsilon
        )
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moved = moving.value * self.momentum + new * (1 - self.momentum)
            moving.assign(ops.where(is_single, moving.value, moved))
        return ops.cast(outputs, self.compute_dtype)


def use_in(network: keras.Model, momentum: float) -> None:
    """Put `BatchNormalization` in place of Keras's own in a network that was made elsewhere.

    Args:
        network: changed in place.
        momentum: share of the old running statistics that stays at a step.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Ours differs in `call` alone, and cloning the network to exchange them would build
            # all its layers twice: 780 in InceptionResNetV2.
            layer.__class__ = BatchNormalization
            layer.momentum = momentum


def _fused(
    maps_BHWC: Any, scale_C: Any, offset_C: Any, running: Running, epsilon: float
) -> tuple[Any, Any, Any, Any]:
    from terrazzo_keras.engines.tensorflow import batch_normalization

    scale_C, offset_C = (ops.cast(vector, "float32") for vector in (scale_C, offset_C))
    return batch_normalization(maps_BHWC, scale_C, offset_C, *running, epsilon=epsilon)


def _composed(
    maps_BHWC: Any, scale_C: Any, offset_C: Any, running: Running, epsilon: float
) -> tuple[Any, Any, Any, Any]:
    maps_BHWC = ops.cast(maps_BHWC, "float32")
    # These engines know every size while the function runs or is traced.
    count = math.prod(ops.shape(maps_BHWC)[:3])
    mean_C, variance_C = running if count == 1 else ops.moments(maps_BHWC, axes=(0, 1, 2))
    outputs = ops.batch_normalization(
        maps_BHWC, mean_C, variance_C, -1, offset=offset_C, scale=scale_C, epsilon=epsilon
    )
    return outputs, mean_C, variance_C * count / max(count - 1, 1), count == 1
