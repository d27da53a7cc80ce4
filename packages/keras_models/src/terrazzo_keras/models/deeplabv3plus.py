"""DeepLabV3+: atrous pyramid pooling at stride 16, refined with features of stride 4.

Chen, Zhu, Papandreou, Schroff, Adam: "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", 2018 (arXiv:1802.02611), with the plain convolutions of its section 3
and rates 6, 12 and 18. Encoders are those of `keras.applications`; the stride of their last stage
becomes a dilation, as in section 3.1 of "Rethinking Atrous Convolution", 2017 (arXiv:1706.05587).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
from keras import layers

from terrazzo.base.config_parsing import Count, Fraction, Frozen
from terrazzo.data.input_statistics import InputStatistics
from terrazzo.models.pretrained_errors import Pretrained
from terrazzo_keras import normalization, pretrained
from terrazzo_keras.dropout import Dropout
from terrazzo_keras.normalization import BatchNormalization
from terrazzo_keras.padding import CropTo, PadToMultiple
from terrazzo_keras.resizing import SpreadOver, UpsampleBilinear

FACTS = {
    "option": "encoder",
    "variants": {
        "resnet50": {"parameters": 40_378_741, "strides": (2, 4, 8, 16)},
        "resnet101": {"parameters": 59_396_981, "strides": (2, 4, 8, 16)},
        "mobilenet_v2": {"parameters": 5_821_813, "strides": (2, 4, 8, 16)},
    },
    "pretrained": ("encoder",),
}

STRIDE = 16
RATES = (6, 12, 18)
FINE_WIDTH = 48
"""Channels of the stride-4 features in the decoder: few, lest they outweigh the coarse ones."""


class Options(Frozen):
    """What a recipe may choose under ``[model.options]``; the defaults are the paper's."""

    encoder: Literal["resnet50", "resnet101", "mobilenet_v2"] = "resnet50"
    width: Count = 256
    """Channels of the pyramid's branches and of the decoder."""
    dropout: Fraction = 0.1
    """Before the decoder."""
    norm_momentum: Fraction = 0.9
    """Share of the old batch statistics kept at a step. The encoders' published 0.99 and 0.999 need
    hundreds of steps before inference means anything."""
    pretrained: Pretrained = False
    """Of the encoder; see `terrazzo_keras.pretrained`."""


SMALL = Options(encoder="mobilenet_v2", width=16)
"""The encoders have one published size each, so only the decoder is small."""
ENCODER = ("conv", "Conv1/", "bn_Conv1/", "expanded_conv_", "block_")
HEAD = ("logits/",)


class _Encoder(NamedTuple):
    application: Callable[..., keras.Model]
    fine: str
    """Name of the layer whose output, at stride 4, goes to the decoder."""
    coarse: str
    """Name of the layer whose output goes to the pyramid."""
    last_stage: tuple[str, ...]
    """Beginnings of the names of the layers at stride 32, the first of which have the stride."""
    trained_on: pretrained.TrainedOn


def _resnet(application: Callable[..., keras.Model]) -> _Encoder:
    return _Encoder(
        application,
        "conv2_block3_out",
        "conv5_block3_out",
        ("conv5_",),
        pretrained.CENTRED_BGR,
    )


_ENCODERS = {
    "resnet50": _resnet(keras.applications.ResNet50),
    "resnet101": _resnet(keras.applications.ResNet101),
    "mobilenet_v2": _Encoder(
        keras.applications.MobileNetV2,
        "block_2_depthwise_relu",
        "block_16_project_BN",
        ("block_13_", "block_14_", "block_15_", "block_16_"),
        pretrained.FROM_MINUS_ONE_TO_ONE,
    ),
}


def input_statistics(options: Options) -> InputStatistics:
    """Return what the published weights of the encoder expect here."""
    return _ENCODERS[options.encoder].trained_on.statistics


def build(options: Options, num_bands: int, num_classes: int) -> keras.Model:
    """Make the network; its `remarks` say what was taken over from published weights.

    Args:
        options: see `Options`.
        num_bands: C of the images.
        num_classes: K of the logits.

    Returns:
        A model from normalised B×H×W×C images of any size to float32 B×H×W×K logits.
    """
    of_encoder = _ENCODERS[options.encoder]
    images = keras.Input((None, None, num_bands), name="images")
    padded = PadToMultiple(STRIDE, name="pad")(images)
    encoder = of_encoder.application(include_top=False, weights=None, input_tensor=padded)
    remarks: tuple[str, ...] = ()
    if options.pretrained is not False:
        remarks = pretrained.adopt(
            encoder,
            of_encoder.application,
            options.pretrained,
            num_bands,
            of_encoder.trained_on,
        )
    _dilate(encoder, of_encoder.last_stage)
    normalization.use_in(encoder, options.norm_momentum)
    fine, coarse = (encoder.get_layer(name).output for name in (of_encoder.fine, of_encoder.coarse))
    x = _pyramid(coarse, options)
    logits = CropTo(name="crop")([_decoder(x, fine, options, num_classes), images])
    model = keras.Model(images, logits, name="deeplabv3plus")
    model.remarks = remarks
    return model


def _dilate(encoder: keras.Model, last_stage: tuple[str, ...]) -> None:
    """Keep stride 16 in the last stage: each of its kernels reaches as far, on a finer grid.

    The layers are changed after they were connected. That is safe, as sizes are unknown until the
    network is used and each layer looks at its stride and rate then.
    """
    for layer in encoder.layers:
        if not layer.name.startswith(last_stage):
            continue
        if isinstance(layer, layers.ZeroPadding2D):
            # It was one row and column, at the end, for the stride.
            layer.padding = ((1, 1), (1, 1))
        elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            if layer.strides != (1, 1):
                layer.strides = (1, 1)
            elif layer.kernel_size != (1, 1):
                layer.dilation_rate = (2, 2)


def _pyramid(x: Any, options: Options) -> Any:
    """Look at neighbourhoods of several sizes at once, the whole image being the largest."""
    point = _convolution(x, options.width, 1, "pyramid_point")
    around = [
        _convolution(x, options.width, 3, f"pyramid_rate_{rate}", rate=rate) for rate in RATES
    ]
    image = layers.GlobalAveragePooling2D(keepdims=True, name="pyramid_image_mean")(x)
    image = _convolution(image, options.width, 1, "pyramid_image")
    image = SpreadOver(name="pyramid_image_spread")([image, x])
    x = layers.Concatenate(name="pyramid_concatenate")([point, *around, image])
    x = _convolution(x, options.width, 1, "pyramid_fuse")
    return Dropout(options.dropout, name="dropout")(x)


def _decoder(x: Any, fine: Any, options: Options, num_classes: int) -> Any:
    x = UpsampleBilinear(4, name="decoder_upsample")(x)
    fine = _convolution(fine, FINE_WIDTH, 1, "decoder_fine")
    x = layers.Concatenate(name="decoder_concatenate")([x, fine])
    for number in range(2):
        x = _convolution(x, options.width, 3, f"decoder_{number}")
    # float32 whatever the policy: the loss of bfloat16 logits is too coarse to learn from.
    x = layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    return UpsampleBilinear(4, dtype="float32", name="upsample")(x)


def _convolution(x: Any, filters: int, kernel: int, name: str, *, rate: int = 1) -> Any:
    x = layers.Conv2D(
        filters,
        kernel,
        padding="same",
        dilation_rate=rate,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
