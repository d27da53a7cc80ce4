"""A mask model for tests: the connected regions of bright pixels, and of dark ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import read_json

FILE = "bright_masks.json"
"""Holds ``{"threshold": 128}``."""


@dataclass(frozen=True)
class BrightMasks:
    """Cuts an image at a brightness.

    Attributes:
        threshold: mean of the three bands from which on a pixel is bright.
    """

    threshold: float

    def masks(self, image_HWC: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
        """Return the regions of bright pixels, then those of dark ones."""
        bright_HW = image_HWC.mean(axis=2) >= self.threshold
        found = []
        for chosen_HW in (bright_HW, ~bright_HW):
            count, numbers_HW = cv2.connectedComponents(chosen_HW.astype(np.uint8), connectivity=4)
            found += [numbers_HW == number for number in range(1, count)]
        return found


def load(folder: Path) -> BrightMasks:
    """Load one from a folder."""
    return BrightMasks(float(read_json(_file(folder))["threshold"]))


def digest(folder: Path) -> str:
    """Return the SHA-256 of its file."""
    return hashlib.sha256(_file(folder).read_bytes()).hexdigest()


def _file(folder: Path) -> Path:
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(
            "SEG-C012",
            "the folder holds no mask model",
            file=folder,
            allowed=f"a folder with {FILE}",
        )
    return path
