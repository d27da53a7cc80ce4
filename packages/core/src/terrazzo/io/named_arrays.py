"""Named arrays in one file: safetensors, which hold numbers and text and nothing that could run.

The one place of core that writes or reads such a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

SafetensorError = safetensors.SafetensorError
"""What the library raises where a file is damaged."""


def write(
    path: Path,
    arrays: Mapping[str, NDArray[np.generic]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name, with the rights that any new file gets here.

    Args:
        path: is replaced; not flushed to the disk.
        arrays: of any shape and order.
        metadata: text beside them.

    Raises:
        OSError: the disk is full or refuses.
    """
    # The library writes a private file (0600) and renames it, whatever the umask says. The umask
    # can only be asked for by changing it, for all threads: an empty file shows it as well.
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        mode = Path(file.name).stat().st_mode
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        save_file(ordered, path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        raise _of_system(error, path) from error
    path.chmod(mode)


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays.

    Raises:
        OSError: the file is missing or unreadable, with the reason of the system.
        SafetensorError: it is damaged.
    """
    with path.open("rb"):  # the library calls every file it may not read a missing one
        pass
    return dict(load_file(path))


def read_metadata(path: Path) -> dict[str, str]:
    """Read the text beside the arrays; see `read`."""
    with path.open("rb"), safetensors.safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})


def first_not_finite(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """Return the name of the first array that holds NaN or infinity, if one does."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fc":
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            # The sum is read at the speed of memory; it is finite only if all values are.
            suspect = not np.isfinite(array.sum())
        if suspect and not np.isfinite(array).all():
            return name
    return None


def _of_system(error: SafetensorError, path: Path) -> OSError:
    """Return the error of the system that the library has put into words."""
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))
