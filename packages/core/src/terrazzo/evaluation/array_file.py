"""Files of arrays in ``evaluation/`` read back: whole and of the shapes they must have, or refused.

They can be made again from the model, so they have no checksums.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from terrazzo.base.disk_errors import unreadable
from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import damaged_file
from terrazzo.io import named_arrays

_ALLOWED = "arrays as `terrazzo evaluate` writes them"


class ArrayFile(NamedTuple):
    """What is in a file.

    Attributes:
        path: of the file, for messages.
        arrays: by name.
        metadata: by name, what the JSON beside them says.
    """

    path: Path
    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, Any]

    def array(self, name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Return one array.

        Args:
            name: of the array.
            kinds: NumPy's letters for the types it may have, such as ``"iu"``.
            shape: None where any length will do.

        Raises:
            CheckpointError: SEG-C014, it is missing or another.
        """
        array = self.arrays.get(name)
        if array is None:
            observed = f"there is no array {name!r}"
            raise self.refused(observed)
        fits = array.ndim == len(shape) and all(
            wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in kinds:
            wanted = " × ".join("any" if length is None else str(length) for length in shape)
            observed = f"array {name!r}: {array.dtype} of shape {array.shape}"
            raise self.refused(observed, f"numbers of shape {wanted}")
        return array

    def refused(self, observed: str, allowed: str = _ALLOWED) -> CheckpointError:
        """Compose the error for a content that cannot be."""
        return _refused(self.path, observed, allowed)


def read(path: Path) -> ArrayFile:
    """Read a file whose metadata is JSON.

    Raises:
        CheckpointError: SEG-C014, it is damaged.
        ResourceError: SEG-R030, it is there and cannot be read.
    """
    try:
        arrays, metadata = named_arrays.read(path), named_arrays.read_metadata(path)
        return ArrayFile(path, arrays, {key: json.loads(text) for key, text in metadata.items()})
    except (ValueError, RecursionError, named_arrays.SafetensorError) as error:
        raise _refused(path, str(error), _ALLOWED) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _refused(path: Path, observed: str, allowed: str) -> CheckpointError:
    return damaged_file(path, observed, allowed, "score the split again with `terrazzo evaluate`")
