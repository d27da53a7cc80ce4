"""All layers of this package, registered with Keras.

``import terrazzo_keras.registered_layers`` is all that a process needs, beside Keras, to read a
``.keras`` file of a model of this package: ``keras.models.load_model`` finds the layers by their
registered names, without ``custom_objects``.
"""

from terrazzo_keras.attention import PixelAttention
from terrazzo_keras.dropout import Dropout
from terrazzo_keras.gelu import ApproximateGelu
from terrazzo_keras.normalization import BatchNormalization
from terrazzo_keras.padding import CropTo, PadToMultiple
from terrazzo_keras.raw_pixels import NormalizePixels
from terrazzo_keras.resizing import SpreadOver, UpsampleBilinear

__all__ = [
    "ApproximateGelu",
    "BatchNormalization",
    "CropTo",
    "Dropout",
    "NormalizePixels",
    "PadToMultiple",
    "PixelAttention",
    "SpreadOver",
    "UpsampleBilinear",
]
