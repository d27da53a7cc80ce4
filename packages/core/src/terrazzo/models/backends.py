"""From the name of a backend to its package: names and import paths only."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from terrazzo.base.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from terrazzo.models.contract import Backend

PACKAGES = {
    "keras": "terrazzo_keras",
    "torch": "terrazzo_torch",
    "reference": "terrazzo.testing.reference",
}
"""``reference`` is NumPy, for tests and teaching."""

_framework_of: dict[str, str] = {}
"""The framework that each backend has loaded in this process, by the backend's name."""


def installed() -> tuple[str, ...]:
    """Return the names of the backends whose package is installed."""
    return tuple(name for name, package in PACKAGES.items() if importlib.util.find_spec(package))


def require(name: str) -> str:
    """Return the import path of a backend's package.

    Raises:
        ConfigError: SEG-X004, unknown name.
    """
    if name not in PACKAGES:
        raise unknown_name("backend", name, PACKAGES)
    return PACKAGES[name]


def demo_recipe(name: str) -> Path:
    """Return the recipe that a backend's package brings for the generated city.

    Raises:
        ConfigError: SEG-X004 unknown name; SEG-X003 not installed; SEG-X005 it brings none.
    """
    package = require(name)
    load(name)  # says how to install it
    path = Path(str(importlib.resources.files(package) / "demo.toml"))
    if not path.is_file():
        raise ConfigError(
            "SEG-X005",
            f"the backend {name!r} brings no demo",
            file=path,
            next_step="name a recipe with --config",
        )
    return path


def load(name: str) -> Backend:
    """Import a backend; its framework is imported when it first builds a model.

    Raises:
        ConfigError: SEG-X004 unknown name; SEG-X003 not installed, with the pip line.
    """
    package = require(name)
    try:
        module = importlib.import_module(f"{package}.backend")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ConfigError(
            "SEG-X003",
            f"the backend {name!r} is not installed",
            observed=f"no package {package}",
            allowed=", ".join(installed()) or "(no backend is installed)",
            next_step=f"pip install terrazzo-{name}   "
            f"(in a checkout: pip install -e packages/{name}_models)",
        ) from None
    backend: Backend = module.backend
    return backend


def claim_process(backend: str, framework: str) -> None:
    """Say that `backend` is about to import `framework`, unless this process holds another one.

    Each backend says so before it imports its framework. Keras on the engine ``torch`` and the
    PyTorch backend share one framework, so both may be used.

    Raises:
        ConfigError: SEG-X070, another backend has loaded another framework.
    """
    for other, loaded in _framework_of.items():
        if loaded != framework:
            raise ConfigError(
                "SEG-X070",
                f"the backend {backend!r} cannot be loaded beside the backend {other!r}",
                observed=f"{other} loaded {loaded} in this process, {backend} needs {framework}",
                allowed="one framework a process: two that bring their own threads and device "
                "libraries can end it without a message (TensorFlow 2.21 with torch 2.15 do)",
                next_step=f"use {backend} in a process of its own, as each command of terrazzo is",
            )
    _framework_of[backend] = framework
