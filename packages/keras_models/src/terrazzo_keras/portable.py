"""Weights in the common form of `terrazzo.models.weight_conversion`, which is this package's own.

Imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping

from terrazzo.models.contract import State

MODELS = ("segformer", "unet")
OWN_OPTIONS: Mapping[str, Mapping[str, object]] = {"segformer": {"arithmetic": "published"}}


def to_common(model: str, arrays: State) -> State:  # noqa: ARG001 - one form for all
    """Return `arrays` as they are."""
    return dict(arrays)


def from_common(model: str, arrays: State) -> State:  # noqa: ARG001 - one form for all
    """Return `arrays` as they are."""
    return dict(arrays)
