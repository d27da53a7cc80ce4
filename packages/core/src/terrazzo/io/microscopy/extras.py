"""The packages that read the files of microscopes: an extra, imported where a file needs them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from terrazzo.base.errors import ConfigError


def import_reader(name: str, path: Path) -> Any:
    """Import a package of the extra ``microscopy``.

    Args:
        name: ``tifffile``, ``pydicom``, ``zarr`` or ``openslide``.
        path: the file that needs it, for the message.

    Raises:
        ConfigError: SEG-X135 it is not installed.
    """
    packages = {
        "tifffile": lambda: importlib.import_module("tifffile"),
        "imagecodecs": lambda: importlib.import_module("imagecodecs"),
        "pydicom": lambda: importlib.import_module("pydicom"),
        "zarr": lambda: importlib.import_module("zarr"),
        "openslide": lambda: importlib.import_module("openslide"),
    }
    try:
        return packages[name]()
    except ImportError as error:
        raise ConfigError(
            "SEG-X135",
            "files of microscopes need packages that are not installed",
            file=path,
            observed=f"{name}: {error}",
            next_step='pip install "terrazzo[microscopy]"',
        ) from None
