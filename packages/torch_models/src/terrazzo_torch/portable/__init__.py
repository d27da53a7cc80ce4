"""Weights to and from the common form of `terrazzo.convert`. Imports no framework."""

from __future__ import annotations

from terrazzo.trainer import State
from terrazzo_torch.portable import segformer, unet

_OF_MODEL = {"segformer": segformer, "unet": unet}
MODELS = tuple(_OF_MODEL)


def to_common(model: str, arrays: State) -> State:
    """Return the arrays of a model in the common form.

    Raises:
        ConfigError: SEG-X018, the options made a network that Keras does not have.
    """
    return _OF_MODEL[model].to_common(arrays)


def from_common(model: str, arrays: State) -> State:
    """Return common arrays as this package's model has them."""
    return _OF_MODEL[model].from_common(arrays)
