"""Masks in which each object has a number of its own, as Cellpose and StarDist write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.data.sample import IGNORE

OBJECT = 1
"""Raw value of pixels in any object; 0 stays 0."""


def foreground(ids_HW: NDArray[Any], border: int, file: Path) -> NDArray[np.uint8]:
    """Turn numbers of objects into one class.

    Args:
        ids_HW: integers; 0 is where no object is.
        border: pixels on either side of the border of two touching objects that become `IGNORE`.
        file: of the mask, for messages.

    Returns:
        H×W of 0, `OBJECT` and `IGNORE`.

    Raises:
        DataError: SEG-D140, a number below 0.
    """
    least = int(ids_HW.min(initial=0))
    if least < 0:
        raise DataError(
            "SEG-D140",
            "an instance mask holds a number below 0, which is no object",
            file=file,
            observed=f"{least} ({int((ids_HW < 0).sum())} px below 0)",
            allowed="0 where no object is, and whole numbers from 1 on",
            next_step="write 0 in place of these numbers",
        )
    raw_HW = np.where(ids_HW > 0, np.uint8(OBJECT), np.uint8(0))
    if border:
        raw_HW[_near_another(ids_HW, border)] = IGNORE
    return raw_HW


def _near_another(ids_HW: NDArray[Any], border: int) -> NDArray[np.bool_]:
    """Return where an object lies within `border` pixels of a place at which it touches another."""
    # OpenCV has no morphology of wide integers; float64 holds all numbers of 32 bits.
    known_HW = ids_HW if ids_HW.dtype in (np.uint8, np.uint16) else ids_HW.astype(np.float64)
    inside_HW = ids_HW > 0
    square = np.ones((3, 3), np.uint8)
    highest_HW = cv2.dilate(known_HW, square)
    # The largest number stands for "no object" here: nothing is below it but objects.
    lowest_HW = cv2.erode(np.where(inside_HW, known_HW, known_HW.max(initial=0)), square)
    touching_HW = inside_HW & (lowest_HW != highest_HW)
    side = 2 * border - 1
    wide_HW = cv2.dilate(touching_HW.astype(np.uint8), np.ones((side, side), np.uint8))
    near_HW: NDArray[np.bool_] = (wide_HW != 0) & inside_HW
    return near_HW
