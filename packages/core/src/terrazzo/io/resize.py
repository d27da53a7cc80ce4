"""Images and labels at another size, for any number of bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Pixels: uint8, uint16 or float32 images, uint8 or uint16 labels."""
Size = tuple[int, int]
"""Rows, columns."""


def resize_image(image_HWC: Array, size: Size) -> Array:
    """Resample an image to `size` (rows, columns); each pixel keeps covering its own area.

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


@dataclass(frozen=True, slots=True)
class Part:
    """What lies below the window along one axis.

    Attributes:
        pixels: of the source; some more at either end where there are any, for interpolation.
        length: of these once scaled.
        inside: those of them that are in the window.
        before: pixels of the window in front of the image.
        after: pixels of the window behind it.
    """

    pixels: slice
    length: int
    inside: slice
    before: int
    after: int


_LEAST_PART = 256
"""Pixels resized along an axis where there are as many: half a pixel is then no scale of note."""


def part_of_axis(source: int, scaled: int, offset: int, window: int) -> Part:
    """Find what to resize of an axis of `source` pixels that is `scaled` to so many.

    Args:
        source: pixels of the image.
        scaled: pixels of the image once scaled.
        offset: first pixel of the window in the scaled image; may be negative.
        window: pixels of the window, which overlaps with the image.
    """
    first, stop = max(offset, 0), min(offset + window, scaled)
    low, high, length, start = first, stop, stop - first, 0
    if scaled != source:
        spare = max(1, _LEAST_PART - (stop - first)) // 2 + 1
        low = max(first * source // scaled - spare, 0)
        high = min(-(-stop * source // scaled) + spare, source)
        # Whole pixels again: the part may be half a pixel longer or shorter, as the whole may.
        length = max(round((high - low) * scaled / source), stop - first)
        start = min(max(round(first - low * scaled / source), 0), length - (stop - first))
    inside = slice(start, start + stop - first)
    return Part(slice(low, high), length, inside, first - offset, offset + window - stop)
