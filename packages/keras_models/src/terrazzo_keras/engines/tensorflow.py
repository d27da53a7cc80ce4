"""TensorFlow: graphs from `tf.function`, gradients from a tape."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from terrazzo.base.processes import usable_processors


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Tell apart the advice on functions that are traced again and again.

    Ours are traced once each, but TensorFlow counts those of all models of a process together.
    """
    message = record.getMessage()
    return not ("triggered tf.function retracing" in message and "KerasTrainer._" in message)


logging.getLogger("tensorflow").addFilter(_is_no_false_alarm)


def device() -> str:
    """Return ``cpu`` or ``cuda:0 <name>``."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu"
    return f"cuda:0 {tf.config.experimental.get_device_details(gpus[0])['device_name']}"


def threads() -> int:
    """Return the number of threads that one operation is shared among."""
    asked_for = tf.config.threading.get_intra_op_parallelism_threads()
    return asked_for or int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0")) or usable_processors()


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


def out_of_memory(error: Exception) -> bool:
    """Tell whether TensorFlow or its XLA had no memory left."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return True
    words = ("out of memory", "RESOURCE_EXHAUSTED")
    return isinstance(error, tf.errors.OpError) and any(word in str(error) for word in words)


def batch_normalization(
    maps_BHWC: Any,
    scale_C: Any,
    offset_C: Any,
    running_mean_C: Any,
    running_variance_C: Any,
    epsilon: float,
) -> tuple[Any, Any, Any, Any]:
    """Return normalised maps, their mean and unbiased variance, and whether B·H·W is 1.

    A single value is normalised with the running statistics; it has none of its own. Sizes are
    unknown when the graph is made, and a branch in every layer would double it. So one kernel
    serves both: of a single value it leaves the offset alone, and what the running statistics make
    of the value is added to that.
    """
    is_single = tf.equal(tf.size(maps_BHWC), tf.size(scale_C))

    def normalised(maps_BHWC: Any, scale_C: Any, offset_C: Any) -> Any:
        value_C = tf.cast(maps_BHWC[0, 0, 0], tf.float32)
        inverse_C = tf.math.rsqrt(running_variance_C + epsilon)
        inference_C = tf.where(is_single, (value_C - running_mean_C) * inverse_C, 0.0)
        kernel = tf.raw_ops.FusedBatchNormV3(
            x=maps_BHWC,
            scale=scale_C,
            offset=offset_C + inference_C * scale_C,
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=epsilon,
            is_training=True,
        )

        def gradients(slope_BHWC: Any, *_: Any) -> tuple[Any, Any, Any]:
            slopes = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=slope_BHWC,
                x=maps_BHWC,
                scale=scale_C,
                reserve_space_1=kernel.reserve_space_1,
                reserve_space_2=kernel.reserve_space_2,
                reserve_space_3=kernel.reserve_space_3,
                epsilon=epsilon,
                is_training=True,
            )
            # Of a single value, the kernel's own slopes are 0 but for the offset's.
            slope_C = slopes.offset_backprop
            single_C = tf.where(is_single, slope_C * scale_C * inverse_C, 0.0)
            return (
                slopes.x_backprop + tf.cast(single_C, maps_BHWC.dtype),
                slopes.scale_backprop + slope_C * inference_C,
                slope_C,
            )

        return (kernel.y, kernel.batch_mean, kernel.batch_variance), gradients

    # The plain gradient of `value_C` would fill a map as large as the layer's with zeros.
    of_kernel = tf.custom_gradient(normalised)
    outputs, mean_C, variance_C = of_kernel(maps_BHWC, scale_C, offset_C)
    return outputs, mean_C, variance_C, is_single
