"""A trained model from one framework to the other, with the weights it has.

Each backend that takes part has a module ``portable`` that imports no framework and translates its
arrays to and from a common form: the names of `terrazzo_keras`, kernels height×width×in×out.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from terrazzo.base.errors import ConfigError
from terrazzo.models import backends
from terrazzo.models.contract import State


class Portable(Protocol):
    """What the module ``portable`` of a backend holds. Names are without ``weights/``."""

    MODELS: tuple[str, ...]

    def to_common(self, model: str, arrays: State) -> State:
        """Return the arrays of a model in the common form."""
        ...

    def from_common(self, model: str, arrays: State) -> State:
        """Return common arrays as this backend's model has them."""
        ...


def portable(backend: str, model: str) -> Portable:
    """Return the translation of a model, without importing its framework.

    Raises:
        ConfigError: SEG-X018, there is none; SEG-X003, the backend is not installed.
    """
    package = backends.require(backend)
    try:
        module = cast(Portable, importlib.import_module(f"{package}.portable"))
        models = module.MODELS
    except ModuleNotFoundError as error:
        if error.name != f"{package}.portable":
            backends.load(backend)  # says how to install it
            raise
        models = ()
    if model not in models:
        raise ConfigError(
            "SEG-X018",
            f"the model {model!r} cannot be converted",
            observed=f"{backend} has no translation of it",
            allowed=", ".join(models) or f"none of the backend {backend!r}",
            next_step="train it in the other framework",
        )
    return module
