"""The model file of a package that is an extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from terrazzo.base.errors import ConfigError

_EXTRAS = {"segmentation_models_pytorch": "smp"}
"""Extra that brings a package."""


def smp_model_file() -> ModuleType:
    """Return the model file ``smp``.

    Raises:
        ConfigError: SEG-X003, its package is not installed.
    """
    return model_file("smp")


def model_file(name: str) -> ModuleType:
    """Import the file of a model.

    Raises:
        ConfigError: SEG-X003, a package that it needs is an extra and not installed.
    """
    try:
        return importlib.import_module(f"terrazzo_torch.models.{name}")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ConfigError(
            "SEG-X003",
            f"the model {name!r} needs a package that is not installed",
            observed=f"no package {error.name}",
            next_step=f"pip install 'terrazzo-torch[{extra}]'",
        ) from error
