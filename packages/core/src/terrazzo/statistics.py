"""What the training pictures are like: mean and deviation of each band, shares of the classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.datasets import Split
from terrazzo.errors import ConfigError, DataError
from terrazzo.sample import Bands

_PICTURES = 200
_PIXELS = 10_000  # of each picture, for quantiles
_ONE_DEVIATION = (0.158655, 0.5, 0.841345)
_IMAGENET_MEAN = (123.675, 116.28, 103.53)  # Deng et al. 2009, as used by torchvision, × 255
IMAGENET_STD = (58.395, 57.12, 57.375)


def bands_of(train: Split, normalize: str) -> Bands:
    """Return the bands of a training split with their normalisation.

    Args:
        train: its pictures; the valid pixels of up to 200 of them, evenly spaced, are read for
            ``dataset`` and ``robust``.
        normalize: ``dataset``, ``robust``, ``imagenet`` or ``none``.

    Raises:
        DataError: SEG-D023, none of these pictures holds a valid pixel.
        ConfigError: SEG-X011, ``imagenet`` for pictures that are not three bands of uint8.
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


def class_weights(train: Split, rule: str) -> tuple[float, ...]:
    """Return a weight for each class, drawn from the labels of a training split.

    Args:
        train: all its labels are read.
        rule: ``inverse_frequency``, 1 / share of the class among all valid pixels; or
            ``median_frequency``, median of all shares / share, where a share is taken over the
            pictures that hold the class (Eigen and Fergus 2015, section 6.3.2).

    Returns:
        K weights with a mean of 1 over the classes that occur; 0 for the others.
    """
    num_classes = len(train.label_map)
    pixels_NK = np.zeros((len(train), num_classes), np.int64)
    for index in range(len(train)):
        labels_HW = train.read(index).label_HW
        valid = labels_HW[labels_HW != train.label_map.ignore_index]
        pixels_NK[index] = np.bincount(valid.ravel(), minlength=num_classes)
    return weights_of_counts(pixels_NK, rule)


def weights_of_counts(pixels_NK: NDArray[np.int64], rule: str) -> tuple[float, ...]:
    """Return the weights of `class_weights` for pixels of each class in each picture."""
    num_classes = pixels_NK.shape[1]
    pixels_K = pixels_NK.sum(axis=0).astype(np.float64)
    pixels_beside_K = (pixels_NK.sum(axis=1, keepdims=True) * (pixels_NK > 0)).sum(axis=0)
    occurs_K = pixels_K > 0
    if not occurs_K.any():
        return tuple(0.0 for _ in range(num_classes))
    whole_K = pixels_beside_K if rule == "median_frequency" else pixels_K.sum()
    weights_K: NDArray[np.float64] = np.divide(
        whole_K, pixels_K, where=occurs_K, out=np.zeros(num_classes)
    )
    return tuple(map(float, weights_K / max(weights_K[occurs_K].mean(), 1e-300)))


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
    some = [
        pixels_PC[:: max(len(pixels_PC) // _PIXELS, 1)]
        for pixels_PC in _valid_pixels(train, num_bands)
    ]
    low, middle, high = np.quantile(np.concatenate(some), _ONE_DEVIATION, axis=0)
    return tuple(map(float, middle)), _deviations((high - low) / 2)


def _deviations(std: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(map(float, np.where(std > 0, std, 1.0)))


def _valid_pixels(train: Split, num_bands: int) -> Iterator[NDArray[Any]]:
    """Yield the valid pixels P×C of up to 200 pictures, in one fixed order.

    Raises:
        DataError: SEG-D023 there is none.
    """
    chosen = np.unique(np.linspace(0, len(train) - 1, min(_PICTURES, len(train))).astype(int))
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
            "the training pictures hold no valid pixel",
            file=train.source.files(int(chosen[0]))[0],
            observed=f"0 valid pixels in {len(chosen)} pictures",
            next_step="check nodata, area and the buffer between the splits",
        )
