"""What the training images are like: mean and deviation of each band, shares of the classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets import Split
from terrazzo.data.sample import Bands

_IMAGES = 200
_PIXELS = 10_000  # of each image, for quantiles
_ONE_DEVIATION = (0.158655, 0.5, 0.841345)
_IMAGENET_MEAN = (123.675, 116.28, 103.53)  # Deng et al. 2009, as used by torchvision, × 255
IMAGENET_STD = (58.395, 57.12, 57.375)


def bands_of(train: Split, normalize: str) -> Bands:
    """Return the bands of a training split with their normalisation.

    Args:
        train: its images; the valid pixels of up to 200 of them, evenly spaced, are read for
            ``dataset`` and ``robust``.
        normalize: ``dataset``, ``robust``, ``imagenet`` or ``none``.

    Raises:
        DataError: SEG-D023, none of these images holds a valid pixel.
        ConfigError: SEG-X011, ``imagenet`` for images that are not three bands of uint8.
    """
    first = train.source.read(0)
    names = train.source.band_names
    dtype = str(first.image_HWC.dtype)
    match normalize:
        case "none":
            top = float(np.iinfo(dtype).max) if np.dtype(dtype).kind == "u" else 1.0
            return Bands(names, dtype, mean=(0.0,) * len(names), std=(top,) * len(names))
        case "imagenet":
            if (len(names), dtype) != (3, "uint8"):
                raise ConfigError(
                    "SEG-X011",
                    "data.normalize = 'imagenet' is for three bands of uint8",
                    file=first.image_file,
                    observed=f"{len(names)} bands of {dtype}",
                    next_step="use data.normalize = 'dataset'",
                )
            return Bands(names, dtype, _IMAGENET_MEAN, IMAGENET_STD)
        case "dataset":
            return Bands(names, dtype, *_moments(train, len(names)))
        case "robust":
            return Bands(names, dtype, *_quantiles(train, len(names)))
    raise AssertionError(normalize)


def noise_deviations(train: Split, bands: Bands) -> tuple[float, ...] | None:
    """Return the deviation of each band that noise is a share of; None for uint8, which needs none.

    From the quantiles, as for ``robust``, so that a few outliers do not make noise louder. Where
    they say 0 (most pixels are equal), the band's standard deviation. Reads up to 200 images.

    Raises:
        DataError: as `bands_of`.
    """
    if bands.dtype == "uint8":
        return None
    low_C, _, high_C = _percentiles(train, len(bands))
    spread_C = (high_C - low_C) / 2
    if (spread_C > 0).all():
        return tuple(map(float, spread_C))
    _, std = _moments(train, len(bands))
    return tuple(map(float, np.where(spread_C > 0, spread_C, std)))


def _moments(train: Split, num_bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over the valid pixels, in float64 and in one fixed order."""
    count = 0
    total, squares = np.zeros(num_bands), np.zeros(num_bands)
    for pixels_PC in _valid_pixels(train, num_bands):
        values_PC = pixels_PC.astype(np.float64)
        count += len(values_PC)
        total += values_PC.sum(axis=0)
        squares += np.square(values_PC).sum(axis=0)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    return tuple(map(float, mean)), _deviations(np.sqrt(variance))


def _quantiles(train: Split, num_bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Median, and half the way between the quantiles that lie one deviation off in a normal one."""
    low_C, middle_C, high_C = _percentiles(train, num_bands)
    return tuple(map(float, middle_C)), _deviations((high_C - low_C) / 2)


def _percentiles(train: Split, num_bands: int) -> NDArray[np.float64]:
    """Return 3×C: the quantiles one deviation below the median, at it, and above it."""
    some = [
        pixels_PC[:: max(len(pixels_PC) // _PIXELS, 1)]
        for pixels_PC in _valid_pixels(train, num_bands)
    ]
    found: NDArray[np.float64] = np.quantile(np.concatenate(some), _ONE_DEVIATION, axis=0)
    return found


def _deviations(std: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(map(float, np.where(std > 0, std, 1.0)))


def _valid_pixels(train: Split, num_bands: int) -> Iterator[NDArray[Any]]:
    """Yield the valid pixels P×C of up to 200 images, in one fixed order.

    Raises:
        DataError: SEG-D023 there is none.
    """
    chosen = np.unique(np.linspace(0, len(train) - 1, min(_IMAGES, len(train))).astype(int))
    found = False
    for index in chosen:
        raw = train.source.read(int(index))
        pixels_PC = raw.image_HWC.reshape(-1, num_bands)
        if raw.valid_HW is not None:
            pixels_PC = raw.image_HWC[raw.valid_HW]
        if len(pixels_PC):
            found = True
            yield pixels_PC
    if not found:
        raise DataError(
            "SEG-D023",
            "the training images hold no valid pixel",
            file=train.source.files(int(chosen[0]))[0],
            observed=f"0 valid pixels in {len(chosen)} images",
            next_step="check nodata, area and the buffer between the splits",
        )
