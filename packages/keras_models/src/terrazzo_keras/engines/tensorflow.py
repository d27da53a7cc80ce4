"""TensorFlow: graphs from `tf.function`, gradients from a tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def device() -> str:
    """Return ``cpu`` or ``cuda:0 <name>``."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu"
    return f"cuda:0 {tf.config.experimental.get_device_details(gpus[0])['device_name']}"


def compiled(
    function: Callable[..., Any], arguments: tuple[Any, ...], fuse: bool
) -> Callable[..., Any]:
    """Return `function` as one graph for all sizes.

    Args:
        function: of tensors and nests of tensors, without side effects.
        arguments: nests of `keras.KerasTensor`; a None in a shape stands for any size, so a short
            last batch does not trace the model again (a minute for the largest ones).
        fuse: hand the graph to XLA, which compiles it anew for each size.
    """
    signature = keras.tree.map_structure(
        lambda spec: tf.TensorSpec(spec.shape, spec.dtype), arguments
    )
    return tf.function(function, input_signature=signature, autograph=False, jit_compile=fuse)


def value_and_grad(
    function: Callable[[Any], tuple[Any, Any]], vector: Any
) -> tuple[tuple[Any, Any], Any]:
    """Return ``function(vector)``, a loss and anything else, and the gradient of the loss."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(vector)
        loss, rest = function(vector)
    return (loss, rest), tape.gradient(loss, vector)


def either(condition: Any, made: Callable[[], Any], kept: Any) -> Any:
    """Return the nest ``made()`` where the scalar `condition` holds, else `kept`.

    A branch, not a choice by element, which would hold both nests in memory.
    """
    return tf.cond(condition, made, lambda: kept)


def batch_normalization(
    maps_BHWC: Any, scale_C: Any, offset_C: Any, epsilon: float
) -> tuple[Any, Any, Any]:
    """Return normalised maps, their mean and their unbiased variance over B×H×W, in one kernel."""
    outputs, mean_C, variance_C, *_ = tf.raw_ops.FusedBatchNormV3(
        x=maps_BHWC,
        scale=scale_C,
        offset=offset_C,
        mean=tf.zeros((0,)),
        variance=tf.zeros((0,)),
        epsilon=epsilon,
        is_training=True,
    )
    return outputs, mean_C, variance_C
