"""SegFormer: a hierarchical transformer with an all-MLP decoder.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo: "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", 2021 (arXiv:2105.15203); sizes as in its table 6.
`terrazzo_torch.models.segformer`, which is that of the transformers library, is the same network,
so weights can go from one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import layers

from terrazzo.base.config_parsing import Fraction, Frozen
from terrazzo.models.segformer_sizes import (
    PATCHES,
    REDUCTIONS,
    SIZES,
    STRIDES,
    SizeName,
    Strides,
    multiple,
)
from terrazzo_keras.attention import PixelAttention
from terrazzo_keras.dropout import Dropout
from terrazzo_keras.gelu import ApproximateGelu
from terrazzo_keras.normalization import BatchNormalization
from terrazzo_keras.padding import CropTo, PadToMultiple
from terrazzo_keras.resizing import UpsampleBilinear

FACTS = {
    "option": "size",
    "variants": {
        "b0": {"parameters": 3_719_541, "strides": (4, 8, 16, 32)},
        "b1": {"parameters": 13_682_645, "strides": (4, 8, 16, 32)},
        "b2": {"parameters": 27_362_773, "strides": (4, 8, 16, 32)},
        "b3": {"parameters": 47_238_613, "strides": (4, 8, 16, 32)},
        "b4": {"parameters": 64_009_173, "strides": (4, 8, 16, 32)},
        "b5": {"parameters": 84_609_493, "strides": (4, 8, 16, 32)},
    },
}


class Options(Frozen):
    """What a recipe may choose under ``[model.options]``; the defaults are the paper's."""

    size: SizeName = "b0"
    """A published size, or ``tiny``, which is one for tests."""
    patch_strides: Strides = STRIDES
    """Stride of each stage: [2, 2, 2, 2] for images of some 64 pixels, where 4 is coarse."""
    drop_path: Fraction = 0.1
    """Largest probability of leaving out a residual branch; grows linearly with depth."""
    dropout: Fraction = 0.1
    """Probability of dropping a value before the classifier."""
    arithmetic: Literal["published", "keras_hub"] = "published"
    """keras_hub: that of its presets, with an approximation of GELU and 1e-6 in place of 1e-5 in
    the norms of the blocks; `terrazzo import` sets it. Such a network does not convert."""


SMALL = Options(size="tiny")
ENCODER = ("encoder_",)
HEAD = ("logits/",)


class _Stage(NamedTuple):
    """What the stages differ in, whatever the size; see `terrazzo.models.segformer_sizes`."""

    patch: int
    stride: int
    reduction: int
    num_heads: int
    is_keras_hub: bool


HEADS = (1, 2, 5, 8)
_MLP_RATIO = 4


def build(options: Options, num_bands: int, num_classes: int) -> keras.Model:
    """Make the network, with random weights as the transformers library draws them.

    Args:
        options: see `Options`.
        num_bands: C of the images.
        num_classes: K of the logits.

    Returns:
        A model from normalised B×H×W×C images of any size to float32 B×H×W×K logits.
    """
    size = SIZES[options.size]
    images = keras.Input((None, None, num_bands), name="images")
    x = PadToMultiple(multiple(options.patch_strides), name="pad")(images)
    drop_paths = iter(np.linspace(0, options.drop_path, sum(size.depths)).tolist())
    maps = []
    is_keras_hub = options.arithmetic == "keras_hub"
    numbers = zip(PATCHES, options.patch_strides, REDUCTIONS, HEADS, strict=True)
    for number, stage in enumerate(_Stage(*each, is_keras_hub) for each in numbers):
        x = _encoder_stage(
            x, stage, size.widths[number], size.depths[number], drop_paths, f"encoder_{number}"
        )
        maps.append(x)
    x = _decoder(maps, options.patch_strides, size.decoder_width)
    x = Dropout(options.dropout, name="dropout")(x)
    # float32 whatever the policy: the loss of bfloat16 logits is too coarse to learn from.
    x = layers.Conv2D(num_classes, 1, kernel_initializer=_normal(), dtype="float32", name="logits")(
        x
    )
    x = UpsampleBilinear(options.patch_strides[0], dtype="float32", name="upsample")(x)
    logits = CropTo(name="crop")([x, images])
    return keras.Model(images, logits, name="segformer")


def _encoder_stage(
    x: Any, stage: _Stage, width: int, depth: int, drop_paths: Iterator[float], name: str
) -> Any:
    """Merge overlapping patches into tokens, then let them attend to each other `depth` times."""
    x = layers.ZeroPadding2D(stage.patch // 2, name=f"{name}_patches_pad")(x)
    x = _convolution(width, stage.patch, f"{name}_patches", strides=stage.stride)(x)
    x = _layer_norm(f"{name}_patches_norm")(x)
    for block in range(depth):
        drop_path = next(drop_paths)
        for branch in (_attention, _mix_mlp):
            prefix = f"{name}_block_{block}_{branch.__name__.removeprefix('_')}"
            norm = _layer_norm(f"{prefix}_norm", 1e-6 if stage.is_keras_hub else 1e-5)
            y = branch(norm(x), stage, width, prefix)
            y = Dropout(drop_path, whole_images=True, name=f"{prefix}_drop_path")(y)
            x = layers.Add(name=f"{prefix}_add")([x, y])
    return _layer_norm(f"{name}_norm")(x)


def _attention(x: Any, stage: _Stage, width: int, name: str) -> Any:
    """Let each token attend to tokens of a coarser grid."""
    coarse = x
    if stage.reduction > 1:
        coarse = _convolution(width, stage.reduction, f"{name}_reduce", strides=stage.reduction)(x)
        coarse = _layer_norm(f"{name}_reduce_norm")(coarse)
    query = _dense(width, f"{name}_query")(x)
    key, value = (_dense(width, f"{name}_{what}")(coarse) for what in ("key", "value"))
    attended = PixelAttention(stage.num_heads, name=f"{name}_heads")([query, key, value])
    return _dense(width, f"{name}_output")(attended)


def _mix_mlp(x: Any, stage: _Stage, width: int, name: str) -> Any:
    """Mix the channels of each token, and its neighbours in between: they tell it where it is."""
    x = _dense(_MLP_RATIO * width, f"{name}_expand")(x)
    x = layers.DepthwiseConv2D(
        3, padding="same", depthwise_initializer=_normal(), name=f"{name}_depthwise"
    )(x)
    gelu = f"{name}_gelu"
    x = (
        ApproximateGelu(name=gelu) if stage.is_keras_hub else layers.Activation("gelu", name=gelu)
    )(x)
    return _dense(width, f"{name}_reduce")(x)


def _decoder(maps: list[Any], strides: tuple[int, ...], width: int) -> Any:
    """Bring the maps of all stages to one width and the finest grid, and fuse them."""
    projected = []
    for number, x in enumerate(maps):
        x = _dense(width, f"decoder_{number}")(x)
        if number:
            factor = math.prod(strides[1 : number + 1])
            x = UpsampleBilinear(factor, name=f"decoder_{number}_upsample")(x)
        projected.append(x)
    # Coarsest first, as the published weights have it.
    x = layers.Concatenate(name="decoder_concatenate")(projected[::-1])
    x = layers.Conv2D(width, 1, use_bias=False, kernel_initializer=_normal(), name="decoder_fuse")(
        x
    )
    # PyTorch's numbers (its momentum of 0.1 is the weight of the new value).
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name="decoder_norm")(x)
    return layers.ReLU(name="decoder_relu")(x)


def _convolution(filters: int, kernel: int, name: str, *, strides: int) -> layers.Layer:
    return layers.Conv2D(filters, kernel, strides, kernel_initializer=_normal(), name=name)


def _dense(width: int, name: str) -> layers.Layer:
    return layers.Dense(width, kernel_initializer=_normal(), name=name)


def _layer_norm(name: str, epsilon: float = 1e-5) -> layers.Layer:
    return layers.LayerNormalization(epsilon=epsilon, name=name)


def _normal() -> keras.initializers.Initializer:
    """A new object for each layer: each has a seed."""
    return keras.initializers.RandomNormal(stddev=0.02)
