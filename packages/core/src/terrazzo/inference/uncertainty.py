"""How uncertain a model is of each pixel, as one number from 0 to 1, kept as a byte.

``entropy``
    −Σ p·ln p / ln K: 0 where one class has all, 1 where all K classes have the same. It looks at
    the whole distribution: doubt among five classes counts more than doubt between two.
``margin``
    1 − (p₁ − p₂), p₁ and p₂ the two largest: 1 where two classes are equally probable, whatever
    the others have. It is high where a small change of the scene would change the map.

Both are of the probabilities that the model gives, blended over its tiles, and no more right than
these are: see calibration in `terrazzo.metrics`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import unknown_name

Measure = Literal["entropy", "margin"]

STEPS = 254
"""What 1 is kept as."""
NODATA = 255
SCALING = (1 / STEPS, 0.0)
"""Scale and offset by which the numbers in the file become 0…1."""

_PIXELS_AT_ONCE = 1 << 15
_LEAST = np.float32(np.finfo(np.float32).tiny)


def require_measure(word: str) -> None:
    """Refuse what is no measure of uncertainty.

    Raises:
        ConfigError: SEG-X004.
    """
    if word not in get_args(Measure):
        raise unknown_name("measure of uncertainty", word, get_args(Measure))


def measure(
    block: NDArray[np.float32], num_classes: int, by: Measure, into_RW: NDArray[np.uint8]
) -> None:
    """Measure the uncertainty of each pixel.

    Args:
        block: R×(W·K), probabilities of the classes of a pixel side by side; rows may lie apart.
        num_classes: K.
        by: which measure.
        into_RW: is filled with 0…`STEPS`.
    """
    of_planes = _entropy if by == "entropy" else _margin
    rows, columns = into_RW.shape
    step = max(1, _PIXELS_AT_ONCE // max(columns, 1))
    for first in range(0, rows, step):
        piece = block[first : first + step]
        planes = [np.ascontiguousarray(piece[:, k::num_classes]) for k in range(num_classes)]
        value_RW = of_planes(planes)
        np.clip(value_RW, 0, 1, out=value_RW)
        value_RW *= np.float32(STEPS)
        into_RW[first : first + step] = np.rint(value_RW, out=value_RW)


def measure_pixels(probabilities_RWK: NDArray[np.float32], by: Measure) -> NDArray[np.uint8]:
    """Return the uncertainty of each pixel, R×W, 0…`STEPS`."""
    rows, columns, num_classes = probabilities_RWK.shape
    into_RW = np.empty((rows, columns), np.uint8)
    measure(probabilities_RWK.reshape(rows, -1), num_classes, by, into_RW)
    return into_RW


def _entropy(planes: list[NDArray[np.float32]]) -> NDArray[Any]:
    total_RW = np.zeros_like(planes[0])
    if len(planes) == 1:  # there is nothing to doubt
        return total_RW
    for plane_RW in planes:
        # 0·ln 0 is 0; blending may leave some −1e-9.
        total_RW -= plane_RW * np.log(np.maximum(plane_RW, _LEAST))
    total_RW *= np.float32(1 / math.log(len(planes)))
    return total_RW


def _margin(planes: list[NDArray[np.float32]]) -> NDArray[Any]:
    best_RW = planes[0].copy()
    second_RW = np.zeros_like(best_RW)
    if len(planes) == 1:
        return second_RW
    for plane_RW in planes[1:]:
        np.maximum(second_RW, np.minimum(best_RW, plane_RW), out=second_RW)
        np.maximum(best_RW, plane_RW, out=best_RW)
    return 1 - (best_RW - second_RW)
