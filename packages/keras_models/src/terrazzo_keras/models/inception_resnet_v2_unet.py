"""U-Net decoder on the InceptionResNetV2 of `keras.applications`.

Encoder: Szegedy, Ioffe, Vanhoucke, Alemi, AAAI 2017 (arXiv:1602.07261). Decoder: Ronneberger,
Fischer, Brox, MICCAI 2015 (arXiv:1505.04597). Skips, filters and dropout are those of the aerial
segmentation system that this model succeeds.

The encoder's strided convolutions and pools do not pad, so its maps are too small for the decoder,
by one to three cells. That system padded the maps; here the image is padded instead, once, so
that each map lies where the decoder takes it to be. With i the index in a map, the middle of what
it sees lies at pixel c + j·i of the padded image; a kernel k of stride s makes c + (k−1)/2·j and
j·s of c and j:

    kernels (k, s; * pads)     map             c    j
    (3, 2)                     activation      1    2
    (3, 1) (3, 1)* (3, 2)      activation_3    5    4      1 + 2 + 0 + 2
    (3, 1) (3, 2)              activation_74   13   8      5 + 4 + 4
    (3, 2)                     activation_161  21   16     13 + 8

Cell g of the decoder's grid of stride j covers the pixels j·g … j·g + j − 1, middle j·g + (j−1)/2.
With 11 pixels before the image and m cells cut from the start of a map, the two middles differ by
c − 11 + j·m − (j−1)/2 pixels:

    activation m = 5: −½ · activation_3 m = 2: +½ · activation_74 m = 0: −1½ · bridge m = 0: +2½

at most a quarter of each stride. No choice does better: ½ pixel is left over at stride 2 in any
case. An image of 16·n pixels needs 16·n + 27 for n cells in the bridge, hence 16 after it; all
maps are then at least as large as their grids, and no map is padded.
"""

from __future__ import annotations

from typing import Annotated, Any

import keras
from keras import layers
from pydantic import Field

from terrazzo.base.config_parsing import Count, Frozen
from terrazzo.data.input_statistics import InputStatistics
from terrazzo.models.pretrained_errors import Pretrained
from terrazzo_keras import normalization, pretrained
from terrazzo_keras.dropout import Dropout
from terrazzo_keras.normalization import BatchNormalization
from terrazzo_keras.padding import CropTo, PadToMultiple

FACTS = {
    "variants": {"inception_resnet_v2": {"parameters": 36_751_445, "strides": (1, 2, 4, 8, 16)}},
    "pretrained": ("encoder",),
}
STRIDE = 16
PAD_BEFORE, PAD_AFTER = 11, 16
SKIPS = ((0, 5), (3, 2), (74, 0))
"""Number of the activation and first cell used, at strides 2, 4 and 8."""
BRIDGE = 161


class Options(Frozen):
    """What a recipe may choose under ``[model.options]``."""

    decoder_filters: tuple[Count, Count, Count, Count] = (
        512,
        256,
        128,
        64,
    )
    """Channels of the decoder at strides 8, 4, 2 and 1."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Before the last convolution."""
    norm_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old batch statistics kept at a step. The encoder's published 0.99 needs several
    hundred steps before inference means anything."""
    pretrained: Pretrained = False
    """Of the encoder; see `terrazzo_keras.pretrained`."""


SMALL = Options(decoder_filters=(16, 16, 8, 8))
"""The encoder has one published size, so only the decoder is small."""
ENCODER = ("conv2d_", "batch_normalization_", "block")
HEAD = ("logits/",)


def input_statistics(options: Options) -> InputStatistics:  # noqa: ARG001 - one encoder
    """Return what the published weights of the encoder expect here."""
    return pretrained.FROM_MINUS_ONE_TO_ONE.statistics


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
    grid = PadToMultiple(STRIDE, name="pad_grid")(images)
    padded = PadToMultiple(STRIDE, before=PAD_BEFORE, after=PAD_AFTER, name="pad")(images)
    encoder = keras.applications.InceptionResNetV2(
        include_top=False, weights=None, input_tensor=padded
    )
    remarks: tuple[str, ...] = ()
    if options.pretrained is not False:
        remarks = pretrained.adopt(
            encoder,
            keras.applications.InceptionResNetV2,
            options.pretrained,
            num_bands,
            pretrained.FROM_MINUS_ONE_TO_ONE,
        )
    activations = _encoder_activations(encoder)
    skips = [(grid, 0), *((activations[number], start) for number, start in SKIPS)]
    x = activations[BRIDGE]
    for level, filters in zip((3, 2, 1, 0), options.decoder_filters, strict=True):
        x = _decoder_block(x, *skips[level], filters, f"up_{level}")
    x = Dropout(options.dropout, name="dropout")(x)
    # float32 whatever the policy: the loss of bfloat16 logits is too coarse to learn from.
    x = layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    logits = CropTo(name="crop")([x, images])
    model = keras.Model(images, logits, name="inception_resnet_v2_unet")
    normalization.use_in(model, options.norm_momentum)
    model.remarks = remarks
    return model


def _encoder_activations(encoder: keras.Model) -> list[Any]:
    """Return the outputs of the encoder's unnamed activations in the order they were made.

    Keras numbers them on from what the process has made before, so the numbers count from the
    first; those after a block's sum have names of their own.
    """
    numbered = {
        int(number or 0): layer.output
        for layer in encoder.layers
        for kind, _, number in [layer.name.partition("_")]
        if kind == "activation"
    }
    return [numbered[number] for number in sorted(numbered)]


def _decoder_block(x: Any, skip: Any, start: int, filters: int, name: str) -> Any:
    x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"{name}_transpose")(x)
    skip = CropTo(start, name=f"{name}_crop")([skip, x])
    x = layers.Concatenate(name=f"{name}_concatenate")([skip, x])
    for i in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv_{i}")(x)
        x = BatchNormalization(epsilon=1e-3, name=f"{name}_norm_{i}")(x)
        x = layers.ReLU(name=f"{name}_relu_{i}")(x)
    return x
