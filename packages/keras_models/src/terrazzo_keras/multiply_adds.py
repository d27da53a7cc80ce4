"""Multiplications with addition that a Keras network makes for one image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from terrazzo_keras.attention import PixelAttention


def count(network: keras.Model, rows: int, columns: int, num_bands: int) -> int:
    """Return how many one image takes: convolutions and matrix products, as papers count them.

    The network runs once, eagerly, since its maps have no size before that.

    Args:
        network: functional.
        rows: of the image.
        columns: of the image.
        num_bands: C.
    """
    total = 0

    def add(layer: Any, inputs: Any, outputs: Any) -> None:
        nonlocal total
        total += _of_layer(layer, inputs, outputs)

    image = np.zeros((1, rows, columns, num_bands), np.float32)
    with _watched(network, add):
        network(image, training=False)
    return total


@contextmanager
def _watched(network: keras.Model, told: Any) -> Iterator[None]:
    layers = [layer for layer in network._flatten_layers() if _counts(layer)]
    for layer in layers:
        call = layer.call

        def watched(
            inputs: Any, *rest: Any, _call: Any = call, _layer: Any = layer, **named: Any
        ) -> Any:
            outputs = _call(inputs, *rest, **named)
            told(_layer, inputs, outputs)
            return outputs

        object.__setattr__(layer, "call", watched)
    try:
        yield
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


_COUNTED = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
    PixelAttention,
)


def _counts(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, _COUNTED)


def _of_layer(layer: Any, inputs: Any, outputs: Any) -> int:
    if isinstance(layer, PixelAttention):
        queries, keys = (math.prod(maps.shape[1:3]) for maps in inputs[:2])
        return 2 * queries * keys * int(inputs[0].shape[-1])
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return math.prod(inputs.shape[1:3]) * math.prod(layer.kernel.shape)
    pixels = math.prod(outputs.shape[1:-1])
    if isinstance(layer, keras.layers.SeparableConv2D):
        return pixels * (
            math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        )
    return pixels * math.prod(layer.kernel.shape)
