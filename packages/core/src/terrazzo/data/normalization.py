"""What the training images are like: mean and deviation of each band, shares of the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.recipe import Statistics
from terrazzo.data.datasets import Split
from terrazzo.data.input_statistics import IMAGENET, InputStatistics
from terrazzo.data.sample import Bands
from terrazzo.io.pixels import ImagePixels

_IMAGES = 200
_PIXELS = 10_000  # of each image, for quantiles
_ONE_DEVIATION = (0.158655, 0.5, 0.841345)


Look = Callable[[int, ImagePixels], None]
"""Is told of an image of the training split that was read: its index and its pixels."""


def _no_look(_: int, __: ImagePixels) -> None:
    pass


def bands_of(
    train: Split,
    normalize: str | Statistics,
    look: Look = _no_look,
    expected: InputStatistics | None = None,
) -> Bands:
    """Return the bands of a training split with their normalisation.

    Args:
        train: its images; the valid pixels of up to 200 of them, evenly spaced, are read for
            ``dataset`` and ``robust``.
        normalize: ``dataset``, ``robust``, ``imagenet``, ``pretrained``, ``image``, ``none``, or
            by hand.
        look: told of each image that is read for the statistics.
        expected: what the weights were trained on; of use for ``pretrained`` alone, which is
            ``dataset`` without it and for other images than 8-bit grey and colour ones.

    Raises:
        DataError: SEG-D023, none of these images holds a valid pixel.
        ConfigError: SEG-X011, ``imagenet`` for images that are not three bands of uint8, ``image``
            for parts of scenes, or another number of bands by hand.
    """
    first = train.source.read(0)
    names = train.source.band_names
    dtype = str(first.image_HWC.dtype)
    if isinstance(normalize, Statistics):
        if len(normalize.mean) != len(names):
            raise ConfigError(
                "SEG-X011",
                "data.normalize names another number of bands than the images have",
                file=first.image_file,
                observed=f"{len(normalize.mean)} means and deviations",
                allowed=f"{len(names)} ({', '.join(names)})",
                next_step="give one of each a band",
            )
        return Bands(names, dtype, normalize.mean, normalize.std)
    if normalize == "pretrained":
        unknown = Bands(names, dtype, mean=(0.0,) * len(names), std=(1.0,) * len(names))
        found = None if expected is None else expected.of_bands(unknown)
        if found is not None:
            return Bands(names, dtype, *found)
        normalize = "dataset"
    match normalize:
        case "none":
            top = float(np.iinfo(dtype).max) if np.dtype(dtype).kind == "u" else 1.0
            return Bands(names, dtype, mean=(0.0,) * len(names), std=(top,) * len(names))
        case "image":
            if train.source.is_cut_from_scenes:
                raise ConfigError(
                    "SEG-X011",
                    "data.normalize = 'image' is for whole images, and these are cut from scenes",
                    file=first.image_file,
                    observed="parts of a scene, whose means would differ from part to part",
                    next_step="use data.normalize = 'dataset', or 'robust'",
                )
            return Bands.normalized_per_image(names, dtype)
        case "imagenet":
            if (len(names), dtype) != (3, "uint8"):
                raise ConfigError(
                    "SEG-X011",
                    "data.normalize = 'imagenet' is for three bands of uint8",
                    file=first.image_file,
                    observed=f"{len(names)} bands of {dtype}",
                    next_step="use data.normalize = 'dataset'",
                )
            return Bands(names, dtype, IMAGENET.mean, IMAGENET.std)
        case "dataset":
            return Bands(names, dtype, *_moments(train, len(names), look))
        case "robust":
            return Bands(names, dtype, *_quantiles(train, len(names), look))
    raise AssertionError(normalize)


def counted_values(pixels: ImagePixels) -> NDArray[np.bool_] | None:
    """Return H×W×C, True for values that statistics count: there, in a pixel that counts.

    None where that is all of them.
    """
    if pixels.valid_HW is None or pixels.valid_HW.all():
        return pixels.present_HWC
    valid_HW1 = pixels.valid_HW[..., None]
    if pixels.present_HWC is None:
        return np.broadcast_to(valid_HW1, pixels.image_HWC.shape)
    return pixels.present_HWC & valid_HW1


def moments(
    images: Iterable[ImagePixels], num_bands: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each band over the values that count.

    In float64 and in one fixed order; 0 for a band without any value.
    """
    return _moments_of(map(_counted, images), num_bands)


def _moments_of(
    images: Iterable[list[NDArray[Any]]], num_bands: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count_C = np.zeros(num_bands, np.int64)
    total_C, squares_C = np.zeros(num_bands), np.zeros(num_bands)
    for bands in images:
        for band, values in enumerate(bands):
            wide = values.astype(np.float64)
            count_C[band] += wide.size
            total_C[band] += wide.sum()
            squares_C[band] += np.square(wide).sum()
    mean_C = total_C / np.maximum(count_C, 1)
    return mean_C, np.sqrt(np.maximum(squares_C / np.maximum(count_C, 1) - mean_C**2, 0))


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


def _moments(
    train: Split, num_bands: int, look: Look = _no_look
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean_C, std_C = _moments_of(_counted_bands(train, look), num_bands)
    return tuple(map(float, mean_C)), _deviations(std_C)


def _quantiles(
    train: Split, num_bands: int, look: Look
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Median, and half the way between the quantiles that lie one deviation off in a normal one."""
    low_C, middle_C, high_C = _percentiles(train, num_bands, look)
    return tuple(map(float, middle_C)), _deviations((high_C - low_C) / 2)


def _percentiles(train: Split, num_bands: int, look: Look = _no_look) -> NDArray[np.float64]:
    """Return 3×C: the quantiles one deviation below the median, at it, and above it.

    0 for a band without any value.
    """
    some: list[list[NDArray[Any]]] = [[np.zeros(0)] for _ in range(num_bands)]
    for bands in _counted_bands(train, look):
        for band, values in enumerate(bands):
            some[band].append(values[:: max(len(values) // _PIXELS, 1)])
    found = [
        np.quantile(values, _ONE_DEVIATION) if len(values) else np.zeros(3)
        for values in map(np.concatenate, some)
    ]
    return np.transpose(np.array(found, np.float64))


def _deviations(std: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(map(float, np.where(std > 0, std, 1.0)))


def _counted(pixels: ImagePixels) -> list[NDArray[Any]]:
    """Return C arrays of the values of an image that count."""
    counts_HWC = counted_values(pixels)
    bands_CHW = np.moveaxis(pixels.image_HWC, 2, 0)
    if counts_HWC is None:
        return [band_HW.ravel() for band_HW in bands_CHW]
    counts_CHW = np.moveaxis(counts_HWC, 2, 0)
    return [band[counts] for band, counts in zip(bands_CHW, counts_CHW, strict=True)]


def _counted_bands(train: Split, look: Look) -> Iterator[list[NDArray[Any]]]:
    """Yield C arrays of the values that count of up to 200 images, in one fixed order.

    Raises:
        DataError: SEG-D023 there is none.
    """
    chosen = np.unique(np.linspace(0, len(train) - 1, min(_IMAGES, len(train))).astype(int))
    found = False
    for index in chosen:
        raw = train.source.read(int(index))
        pixels = ImagePixels(raw.image_HWC, raw.valid_HW, raw.present_HWC)
        look(int(index), pixels)
        bands = _counted(pixels)
        if any(values.size for values in bands):
            found = True
            yield bands
    if not found:
        raise DataError(
            "SEG-D023",
            "the training images hold no valid pixel",
            file=train.source.files(int(chosen[0]))[0],
            observed=f"0 valid pixels in {len(chosen)} images",
            next_step="check nodata, area and the buffer between the splits",
        )
