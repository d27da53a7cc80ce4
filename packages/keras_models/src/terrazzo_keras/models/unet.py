"""U-Net with batch normalisation.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI
2015 (arXiv:1505.04597); batch normalisation and padded convolutions as in all later practice.
`terrazzo_torch.models.unet` is the same network, so weights can go from one to the other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import Field

from terrazzo.base.config_parsing import Count, Frozen
from terrazzo_keras.normalization import BatchNormalization
from terrazzo_keras.padding import CropTo, PadToMultiple
from terrazzo_keras.resizing import UpsampleBilinear

FACTS = {
    "variants": {"none": {"parameters": 31_038_933, "strides": (1, 2, 4, 8, 16)}},
}


class Options(Frozen):
    """What a recipe may choose under ``[model.options]``."""

    width: Count = 64
    """Channels of the finest level; each coarser level has twice as many."""
    depth: Annotated[int, Field(ge=1, le=8)] = 4
    """Number of halvings."""
    up: Literal["transpose", "bilinear"] = "transpose"
    """How the decoder doubles the size: a learnt 2×2 kernel, or interpolation and a 1×1 one."""


SMALL = Options(width=8, depth=2)
ENCODER = ("down_",)
HEAD = ("logits/",)


def build(options: Options, num_bands: int, num_classes: int) -> keras.Model:
    """Make the network.

    Args:
        options: see `Options`.
        num_bands: C of the images.
        num_classes: K of the logits.

    Returns:
        A model from normalised B×H×W×C images of any size to float32 B×H×W×K logits.
    """
    images = keras.Input((None, None, num_bands), name="images")
    x = PadToMultiple(2**options.depth, name="pad")(images)
    skips = []
    for level in range(options.depth):
        x = _double_convolution(x, options.width << level, f"down_{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down_{level}_pool")(x)
    x = _double_convolution(x, options.width << options.depth, f"down_{options.depth}")
    for level in reversed(range(options.depth)):
        x = _doubled_size(x, options.width << level, options.up, f"up_{level}")
        x = layers.Concatenate(name=f"up_{level}_concatenate")([skips[level], x])
        x = _double_convolution(x, options.width << level, f"up_{level}")
    # float32 whatever the policy: the loss of bfloat16 logits is too coarse to learn from.
    x = layers.Conv2D(
        num_classes, 1, kernel_initializer=_he_normal(), dtype="float32", name="logits"
    )(x)
    logits = CropTo(name="crop")([x, images])
    return keras.Model(images, logits, name="unet")


def _double_convolution(x: Any, filters: int, name: str) -> Any:
    for i in range(2):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=_he_normal(),
            name=f"{name}_conv_{i}",
        )(x)
        # PyTorch's numbers (its momentum of 0.1 is the weight of the new value).
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm_{i}")(x)
        x = layers.ReLU(name=f"{name}_relu_{i}")(x)
    return x


def _doubled_size(x: Any, filters: int, up: str, name: str) -> Any:
    if up == "transpose":
        return layers.Conv2DTranspose(
            filters, 2, strides=2, kernel_initializer=_he_normal(), name=f"{name}_transpose"
        )(x)
    x = UpsampleBilinear(2, name=f"{name}_bilinear")(x)
    return layers.Conv2D(filters, 1, kernel_initializer=_he_normal(), name=f"{name}_reduce")(x)


def _he_normal() -> keras.initializers.Initializer:
    """He et al. 2015 (arXiv:1502.01852), not truncated; a new object a layer: each has a seed."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")
