"""Weights to and from the common form of `terrazzo.models.weight_conversion`.

Imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping

from terrazzo.models.contract import State
from terrazzo_torch.portable import segformer, unet

MODELS = ("segformer", "unet")
OWN_OPTIONS: Mapping[str, Mapping[str, object]] = {"unet": {"encoder": None}}


def to_common(model: str, arrays: State) -> State:
    """Return the arrays of a model in the common form.

    Raises:
        ConfigError: SEG-X018, the options made a network that Keras does not have.
    """
    assert model in MODELS
    return segformer.to_common(arrays) if model == "segformer" else unet.to_common(arrays)


def from_common(model: str, arrays: State) -> State:
    """Return common arrays as this package's model has them."""
    assert model in MODELS
    return segformer.from_common(arrays) if model == "segformer" else unet.from_common(arrays)
