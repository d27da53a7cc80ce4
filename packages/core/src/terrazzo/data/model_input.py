"""Images as models are shown them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.data.image_standardization import ImageMoments, moments_of_image, standardized
from terrazzo.data.sample import Bands
from terrazzo.io.pixels import ImagePixels, fill_missing, mark_missing
from terrazzo.io.resize import Size, resample, resize_image


def as_seen(pixels: ImagePixels, size: Size | None, bands: Bands | None) -> NDArray[Any]:
    """Return an image as a model is shown it.

    Args:
        pixels: as its file holds it.
        size: rows and columns it is brought to; None: its own.
        bands: their means stand in for missing values while pixels are mixed; and whether each
            image is normalised by itself. None: no value is missing, and it is not.

    Returns:
        H×W×C; float32 with NaN where values are missing. Normalised where that is done by image:
        float32, too.
    """
    if bands is not None and bands.per_image:
        image_HWC, present_HWC = _by_its_own_mean(pixels, size)
        moments = moments_of_image(image_HWC, present_HWC)
        return standardized(image_HWC, moments, present_HWC)
    image_HWC, present_HWC = _at_size(pixels, size, None if bands is None else np.array(bands.mean))
    return image_HWC if present_HWC is None else mark_missing(image_HWC, present_HWC)


def moments_as_seen(pixels: ImagePixels, size: Size | None) -> tuple[ImageMoments, float]:
    """Return what `as_seen` normalises an image by, where that is done by image.

    Args:
        pixels: as its file holds it.
        size: rows and columns it is brought to; None: its own.

    Returns:
        The moments; and the mean of the image as its file holds it, which stands in for missing
        values while pixels are mixed.
    """
    moments = moments_of_image(*_by_its_own_mean(pixels, size))
    is_resized = size not in (None, pixels.image_HWC.shape[:2])
    is_filled = is_resized and pixels.present_HWC is not None
    return moments, _own_mean(pixels) if is_filled else moments.mean


def marked_values(image_HWC: NDArray[Any]) -> ImagePixels:
    """Return the pixels of an image in which NaN says that a value is missing."""
    present_HWC = None
    if np.issubdtype(image_HWC.dtype, np.floating):
        present_HWC = ~np.isnan(image_HWC)
        present_HWC = None if present_HWC.all() else present_HWC
    return ImagePixels(image_HWC, None, present_HWC)


_Seen = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""An image H×W×C, and where its values are there; None: everywhere."""


def _by_its_own_mean(pixels: ImagePixels, size: Size | None) -> _Seen:
    """Bring an image to a size; its own mean stands in for what is missing."""
    mean_C = None
    if pixels.present_HWC is not None and size is not None:
        mean_C = np.full(pixels.image_HWC.shape[2], _own_mean(pixels))
    return _at_size(pixels, size, mean_C)


def _own_mean(pixels: ImagePixels) -> float:
    return moments_of_image(pixels.image_HWC, pixels.present_HWC).mean


def _at_size(pixels: ImagePixels, size: Size | None, mean_C: NDArray[np.float64] | None) -> _Seen:
    image_HWC, _, present_HWC = pixels
    if size is None or size == image_HWC.shape[:2]:
        return image_HWC, present_HWC
    if present_HWC is None:
        return resize_image(image_HWC, size), None
    assert mean_C is not None
    image_HWC = resize_image(fill_missing(image_HWC, present_HWC, mean_C), size)
    flags_HWC = resample(present_HWC.astype(np.uint8), size, cv2.INTER_NEAREST_EXACT)
    return image_HWC, flags_HWC > 0


def seen_at_size(image_HWC: NDArray[np.generic], size: Size, bands: Bands) -> NDArray[np.generic]:
    """Return an image that a model could be shown, with NaN for missing values, at another size.

    Args:
        image_HWC: as `as_seen` returns it.
        size: rows and columns.
        bands: their means stand in for missing values while pixels are mixed. An image that was
            normalised by itself is not normalised again: it is the same image.
    """
    seen_HWC, present_HWC = _at_size(marked_values(image_HWC), size, np.array(bands.mean))
    return seen_HWC if present_HWC is None else mark_missing(seen_HWC, present_HWC)
