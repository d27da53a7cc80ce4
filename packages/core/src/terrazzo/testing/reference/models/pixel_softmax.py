"""A linear softmax classifier of single pixels: the smallest model that learns to segment."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.config_parsing import Frozen

REACH = 1
"""Pixels that a neighbourhood reaches to each side."""


class Options(Frozen):
    """Settings of the model."""

    features: Literal["colour", "neighbourhood"] = "colour"
    """What a pixel is judged by: its own C bands, or those of its 3×3 neighbours too."""


SMALL = Options(features="neighbourhood")


def num_features(options: Options, num_bands: int) -> int:
    """Return F, the number of features of a pixel."""
    return num_bands if options.features == "colour" else num_bands * (2 * REACH + 1) ** 2


def features(options: Options, images_BHWC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features B×H×W×F of normalised images; edges are repeated outwards."""
    if options.features == "colour":
        return images_BHWC
    height, width = images_BHWC.shape[1:3]
    border = (REACH, REACH)
    padded = np.pad(images_BHWC, ((0, 0), border, border, (0, 0)), mode="edge")
    shifts = range(2 * REACH + 1)
    return np.concatenate(
        [padded[:, y : y + height, x : x + width] for y in shifts for x in shifts], axis=-1
    )
