"""Batch normalisation that is the same on every engine, and one kernel where TensorFlow has it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer over B×H×W, with PyTorch's moving variance: the unbiased one.

    Under TensorFlow, Keras's own becomes some fifty operations a layer, gradient included. That is
    half of the graph of InceptionResNetV2, hence half of the wait before its first step.

    One value has no variance. Where pooling leaves one pixel of an image, and the last batch of an
    epoch has one image, it is normalised as at inference and does not change the statistics.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised maps; while training, also move the statistics."""
        if not (training and self.trainable):
            return super().call(inputs, training=False, mask=mask)
        scale = self.gamma.value if self.scale else ops.ones_like(self.moving_mean)
        normalise = _fused if keras.backend.backend() == "tensorflow" else _composed
        outputs, mean, variance = normalise(inputs, scale, self.beta.value, self.epsilon)
        if tuple(inputs.shape[1:3]) == (1, 1):
            several = ops.shape(inputs)[0] > 1
            outputs = ops.where(several, outputs, super().call(inputs, training=False, mask=mask))
            mean = ops.where(several, mean, self.moving_mean.value)
            variance = ops.where(several, variance, self.moving_variance.value)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * self.momentum + new * (1 - self.momentum))
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


def _fused(maps_BHWC: Any, scale_C: Any, offset_C: Any, epsilon: float) -> tuple[Any, Any, Any]:
    from terrazzo_keras.engines.tensorflow import batch_normalization

    scale_C, offset_C = (ops.cast(vector, "float32") for vector in (scale_C, offset_C))
    return batch_normalization(maps_BHWC, scale_C, offset_C, epsilon)


def _composed(maps_BHWC: Any, scale_C: Any, offset_C: Any, epsilon: float) -> tuple[Any, Any, Any]:
    maps_BHWC = ops.cast(maps_BHWC, "float32")
    mean_C, variance_C = ops.moments(maps_BHWC, axes=(0, 1, 2))
    outputs = ops.batch_normalization(
        maps_BHWC, mean_C, variance_C, -1, offset=offset_C, scale=scale_C, epsilon=epsilon
    )
    count = ops.cast(ops.prod(ops.shape(maps_BHWC)[:3]), "float32")
    return outputs, mean_C, variance_C * count / ops.maximum(count - 1, 1)
