"""Every image brought to mean 0 and deviation 1 by itself: ``data.normalize = "image"``.

One mean and one deviation over all values of an image, its bands together, as
``tf.image.per_image_standardization`` and systems that were built on it do. So what is red stays
redder than what is grey; a mean for each band would take the colour of an image away, which tells
classes apart. Bands in different units want ``data.normalize = "dataset"`` instead.

The statistics are those of the whole image at the size a model is shown it at: before training cuts
a window out of it, before evaluation or prediction cut tiles, and before test-time augmentation
turns or scales it. So an image is brought to the same numbers wherever a model meets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRIP = 1 << 20  # values taken to float64 at a time, so that a large image is never all in it


@dataclass(frozen=True, slots=True)
class ImageMoments:
    """Mean and deviation of one image over all of its bands.

    Attributes:
        mean: of the values that are there, in the image's units; 0 where none is.
        std: of the same, and never 0: see `moments_of_image`.
    """

    mean: float
    std: float


def moments_of_image(
    image_HWC: NDArray[Any], present_HWC: NDArray[np.bool_] | None
) -> ImageMoments:
    """Return what an image is normalised by.

    Args:
        image_HWC: uint8, uint16 or float32; NaN and infinity do not count.
        present_HWC: False where a value is missing and does not count. None: nowhere.

    Returns:
        In float64, with the deviation over N values and not N − 1. An image of one colour has no
        deviation, and what rounding leaves of one is no contrast: of whole numbers it is at least
        1 / √N of a step, as in TensorFlow; of floats, whose unit may be any, at least what float32
        rounds the mean by.
    """
    count, total = 0, 0.0
    for values in _counted(image_HWC, present_HWC):
        count += values.size
        total += float(values.sum())
    if count == 0:
        return ImageMoments(0.0, 1.0)
    mean = total / count
    squares = sum(
        float(np.square(values - mean).sum()) for values in _counted(image_HWC, present_HWC)
    )
    if image_HWC.dtype.kind == "f":
        least = float(np.finfo(np.float32).eps) * abs(mean)
    else:
        least = float(1 / np.sqrt(count))
    return ImageMoments(mean, max(float(np.sqrt(squares / count)), least) or 1.0)


def standardized(
    image_HWC: NDArray[Any], moments: ImageMoments, present_HWC: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Return an image less its mean, in units of its deviation.

    Args:
        image_HWC: uint8, uint16 or float32; a whole image, or a part of one.
        moments: of the whole image.
        present_HWC: False where a value is missing. None: nowhere.

    Returns:
        float32; NaN where a value is missing, which every backend takes as 0: the mean exactly.
    """
    out_HWC = np.empty(image_HWC.shape, np.float32)
    for rows in _strips(image_HWC):
        out_HWC[rows] = (image_HWC[rows].astype(np.float64) - moments.mean) / moments.std
    if present_HWC is not None:
        out_HWC[~present_HWC] = np.nan
    return out_HWC


def _counted(
    image_HWC: NDArray[Any], present_HWC: NDArray[np.bool_] | None
) -> Iterator[NDArray[np.float64]]:
    """Yield the values that count, some at a time and always in the same order."""
    for rows in _strips(image_HWC):
        values = image_HWC[rows]
        if present_HWC is not None:
            values = values[present_HWC[rows]]
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        yield values.astype(np.float64)


def _strips(image_HWC: NDArray[Any]) -> Iterator[slice]:
    rows = max(1, _STRIP // max(1, image_HWC[:1].size))
    for first in range(0, len(image_HWC), rows):
        yield slice(first, first + rows)
