"""How sure a model was of an image: the mean probability of the classes on its map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import read_json, write_json

_DIGITS = 6  # of what is written; float32 has not many more


class Confidence:
    """The probabilities of the classes on a map, added up a few rows at a time."""

    def __init__(self, classes: int) -> None:
        self._pixels_K = np.zeros(classes, np.int64)
        self._sums_K = np.zeros(classes)

    def add(self, labels_RW: NDArray[np.integer], probabilities_RWK: NDArray[np.float32]) -> None:
        """Add rows of an image.

        Args:
            labels_RW: the class of each pixel.
            probabilities_RWK: of all classes.
        """
        classes = len(self._pixels_K)
        chosen_RW = np.take_along_axis(probabilities_RWK, labels_RW[..., None].astype(np.intp), 2)
        flat = labels_RW.ravel()
        self._pixels_K += np.bincount(flat, minlength=classes)
        self._sums_K += np.bincount(flat, chosen_RW.ravel(), minlength=classes)

    def of_class(self, k: int) -> float:
        """Return the mean probability of a class where the map shows it; NaN if nowhere."""
        return float(self._sums_K[k] / self._pixels_K[k]) if self._pixels_K[k] else float("nan")

    def write(self, path: Path, names: Sequence[str]) -> None:
        """Write the means, of the image and of each class on it, where the caller handles errors.

        Raises:
            OSError: the disk is full or refuses.
        """
        means = {
            name: round(self.of_class(k), _DIGITS)
            for k, name in enumerate(names)
            if self._pixels_K[k]
        }
        image = round(float(self._sums_K.sum() / self._pixels_K.sum()), _DIGITS)
        write_json(path, {"mean_probability": image, "classes": means})


def read(path: Path) -> tuple[float, dict[str, float]]:
    """Return what `Confidence.write` has written: the mean of the image, and those of its classes.

    Raises:
        CheckpointError: SEG-C014, something else is in the file.
        ResourceError: SEG-R030, it cannot be read.
    """
    value: dict[str, Any] = read_json(path)
    try:
        return float(value["mean_probability"]), {
            str(name): float(mean) for name, mean in value["classes"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            "SEG-C014",
            "the file holds no mean probabilities",
            file=path,
            observed=repr(error),
            next_step="delete it and run the same command with --resume",
        ) from None
