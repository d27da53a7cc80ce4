"""A trained model from one framework to the other, with the weights it has.

Each backend that takes part has a module ``portable`` that imports no framework and translates its
arrays to and from a common form: the names of `terrazzo_keras`, kernels height×width×in×out.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, cast

from terrazzo.base.errors import ConfigError
from terrazzo.models import backends
from terrazzo.models.contract import State


class Portable(Protocol):
    """What the module ``portable`` of a backend holds. Names are without ``weights/``."""

    MODELS: tuple[str, ...]
    OWN_OPTIONS: Mapping[str, Mapping[str, object]]
    """By model: options that no other backend has, each with the value that leaves the network
    the common one."""

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
            next_step=_KEEP,
        )
    return module


def common_options(backend: str, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a model without those that only this backend has.

    Raises:
        ConfigError: SEG-X018, one of these makes a network that only this backend has.
    """
    own = portable(backend, model).OWN_OPTIONS.get(model, {})
    for name, common in own.items():
        if options.get(name, common) != common:
            raise ConfigError(
                "SEG-X018",
                f"this {model!r} is a network that only {backend} has, so it cannot be converted",
                observed=f"model.options.{name} = {options[name]!r}",
                allowed=f"{name} left out" if common is None else f"{name} = {common!r}",
                next_step=_KEEP,
            )
    return {name: value for name, value in options.items() if name not in own}


_KEEP = (
    "keep the run where it is: `terrazzo export RUN --to onnx` writes it for other programs, and "
    "--runtime openvino lets it predict and score beside runs of the other framework"
)
