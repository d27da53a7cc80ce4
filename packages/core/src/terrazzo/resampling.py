"""Pictures and labels at another size, for any number of bands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Pixels: uint8, uint16 or float32 images, uint8 or uint16 labels."""
Size = tuple[int, int]
"""Rows, columns."""


def resize_image(image_HWC: Array, size: Size) -> Array:
    """Resample a picture to `size` (rows, columns); each pixel keeps covering its own area.

    An axis that shrinks below one half is averaged over the area of its new pixels, any other is
    interpolated linearly. Returns the same array where nothing changes.
    """
    rows, columns = image_HWC.shape[:2]
    shrunk_HWC = resample(image_HWC, averaged((rows, columns), size), cv2.INTER_AREA)
    return resample(shrunk_HWC, size, cv2.INTER_LINEAR)


def averaged(size: Size, wanted: Size) -> Size:
    """Return the size after averaging: the wanted length where an axis shrinks below one half.

    Down to one half each old pixel is next to a new one, so linear sampling leaves none out.
    """
    rows, columns = (new if 2 * new < old else old for old, new in zip(size, wanted, strict=True))
    return rows, columns


def resample(array: Array, size: Size, interpolation: int) -> Array:
    """Resize to `size` (rows, columns) as OpenCV does; the same array where nothing changes."""
    if array.shape[:2] == size:
        return array
    return by_fours(array, lambda bands: cv2.resize(bands, size[::-1], interpolation=interpolation))


def by_fours(array: Array, change: Callable[[Array], Array]) -> Array:
    """Apply `change` to four bands at a time, the most that OpenCV resamples in one call."""
    if array.ndim == 2:
        return change(array)
    if array.shape[2] <= 4:
        return np.atleast_3d(change(array))  # OpenCV drops the axis of a single band
    groups = [
        np.atleast_3d(change(np.ascontiguousarray(array[..., band : band + 4])))
        for band in range(0, array.shape[2], 4)
    ]
    return np.concatenate(groups, axis=2)
