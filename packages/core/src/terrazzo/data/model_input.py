"""Images as models are shown them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.data.sample import Bands
from terrazzo.io.pixels import ImagePixels, fill_missing, mark_missing
from terrazzo.io.resize import Size, resample, resize_image


def as_seen(pixels: ImagePixels, size: Size | None, bands: Bands | None) -> NDArray[Any]:
    """Return an image as a model is shown it.

    Args:
        pixels: as its file holds it.
        size: rows and columns it is brought to; None: its own.
        bands: their means stand in for missing values while pixels are mixed.

    Returns:
        H×W×C; float32 with NaN where values are missing.
    """
    image_HWC, _, present_HWC = pixels
    if present_HWC is None:
        return image_HWC if size is None else resize_image(image_HWC, size)
    if size is not None and size != image_HWC.shape[:2]:
        assert bands is not None
        image_HWC = resize_image(fill_missing(image_HWC, present_HWC, np.array(bands.mean)), size)
        flags_HWC = resample(present_HWC.astype(np.uint8), size, cv2.INTER_NEAREST_EXACT)
        present_HWC = flags_HWC > 0
    return mark_missing(image_HWC, present_HWC)


def seen_at_size(image_HWC: NDArray[np.generic], size: Size, bands: Bands) -> NDArray[np.generic]:
    """Return an image that a model could be shown, with NaN for missing values, at another size.

    Args:
        image_HWC: as `as_seen` returns it.
        size: rows and columns.
        bands: their means stand in for missing values while pixels are mixed.
    """
    present_HWC = None
    if np.issubdtype(image_HWC.dtype, np.floating):
        present_HWC = ~np.isnan(image_HWC)
        present_HWC = None if present_HWC.all() else present_HWC
    return as_seen(ImagePixels(image_HWC, None, present_HWC), size, bands)
