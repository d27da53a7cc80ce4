"""What one look at an image and its label tells; small enough to be kept.

Labels are counted pixel by pixel. Of images a regular grid of pixels is taken, about
`GRID` × `GRID`: means, ranges and thumbnails need no more, and the look at a file then costs little
beside decoding it. Large JPEGs are looked at at a quarter of their size: means stay, and deviations
(on CamVid 4 % less) and extremes are those of means of 16 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.data.normalization import counted_values
from terrazzo.io.pixels import ImagePixels

GRID = 64
THUMBNAIL = 16

_FLAT = 8  # a thumbnail of fewer grey levels shows noise


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image is like; statistics are over the valid pixels of a grid, a value a band.

    Attributes:
        rows: height in pixels.
        columns: width in pixels.
        dtype: NumPy dtype name.
        mean: C means.
        std: C standard deviations.
        low: C least values.
        high: C largest values.
        at_high: share of values that equal the largest value of their band.
        valid: share of pixels that hold data.
        thumbnail: `THUMBNAIL`² grey values as hexadecimal; empty where the image is flat.
    """

    rows: int
    columns: int
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at_high: float
    valid: float
    thumbnail: str


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """What a label holds.

    Attributes:
        rows: height in pixels.
        columns: width in pixels.
        dtype: NumPy dtype name.
        colours: whether the raw values are colours 0xRRGGBB.
        counts: pixels by raw value, where the image holds data.
        palette: 0xRRGGBB of each raw value that occurs, of a palette PNG read as indices.
        unlabelled: pixels that the label file says have no label.
    """

    rows: int
    columns: int
    dtype: str
    colours: bool
    counts: dict[int, int]
    palette: dict[int, int]
    unlabelled: int = 0


def of_image(pixels: ImagePixels, size: tuple[int, int] | None = None) -> ImageFacts:
    """Look at an image; its statistics are those of the values that are there and count.

    Args:
        pixels: of the image.
        size: its rows and columns where `pixels` is a reduced copy. None: it is whole.
    """
    image_HWC, valid_HW, _ = pixels
    rows, columns, bands = image_HWC.shape
    step = max(1, min(rows, columns) // GRID)
    whole = np.s_[: rows // step * step, : columns // step * step]
    if image_HWC.dtype == np.uint8 and valid_HW is None and bands <= 4:
        # The same pixels as below, in a third of the time.
        grid_HWC = image_HWC
        if step > 1:
            grid = columns // step, rows // step
            grid_HWC = cv2.resize(image_HWC[whole], grid, interpolation=cv2.INTER_NEAREST)
            grid_HWC = np.atleast_3d(grid_HWC)
        mean, std, low, high, at_high = _byte_statistics(grid_HWC)
    else:
        grid_HWC = np.ascontiguousarray(image_HWC[whole][::step, ::step])
        counts_HWC = counted_values(pixels)
        if counts_HWC is not None:
            counts_HWC = counts_HWC[whole][::step, ::step]
        mean, std, low, high, at_high = _statistics(grid_HWC, counts_HWC)
    rows, columns = size or (rows, columns)
    return ImageFacts(
        rows,
        columns,
        image_HWC.dtype.name,
        mean,
        std,
        low,
        high,
        at_high,
        1.0 if valid_HW is None else float(valid_HW.mean()),
        _thumbnail(grid_HWC),
    )


_Numbers = tuple[float, ...]


def _byte_statistics(
    grid_HWC: NDArray[Any],
) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers, float]:
    mean, std = cv2.meanStdDev(grid_HWC)
    low, high, at_high = [], [], 0.0
    for plane_HW in cv2.split(grid_HWC):  # NumPy is slow along the bands of an image
        largest = plane_HW.max()
        low.append(float(plane_HW.min()))
        high.append(float(largest))
        at_high += np.count_nonzero(plane_HW == largest)
    return (
        tuple(mean.ravel().tolist()),
        tuple(std.ravel().tolist()),
        tuple(low),
        tuple(high),
        at_high / grid_HWC.size,
    )


def _statistics(
    grid_HWC: NDArray[Any], counts_HWC: NDArray[np.bool_] | None
) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers, float]:
    """Look at each band by itself, at the values that count; zeros for a band without any."""
    found, at_high, num_values = [], 0, 0
    for band in range(grid_HWC.shape[2]):
        inside = np.s_[:] if counts_HWC is None else counts_HWC[..., band]
        values = grid_HWC[..., band][inside].astype(np.float64).ravel()
        if values.size == 0:
            found.append((0.0, 0.0, 0.0, 0.0))
            continue
        found.append((values.mean(), values.std(), values.min(), values.max()))
        at_high += int(np.count_nonzero(values == values.max()))
        num_values += values.size
    mean, std, low, high = (tuple(map(float, column)) for column in zip(*found, strict=True))
    return mean, std, low, high, at_high / max(num_values, 1)


def _thumbnail(grid_HWC: NDArray[Any]) -> str:
    """Stretch the first bands, averaged, over 0…255."""
    if grid_HWC.shape[2] == 3 and grid_HWC.dtype == np.uint8:
        grey_HW: NDArray[Any] = cv2.cvtColor(grid_HWC, cv2.COLOR_RGB2GRAY)
    else:
        grey_HW = grid_HWC[..., :3].astype(np.float32).mean(axis=2)
    small_HW = cv2.resize(grey_HW, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    low, high = float(small_HW.min()), float(small_HW.max())
    if high - low < (_FLAT if grid_HWC.dtype == np.uint8 else 1e-6 * max(1.0, abs(high))):
        return ""
    stretched_HW: NDArray[np.uint8] = cv2.normalize(
        small_HW, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U
    )
    return stretched_HW.tobytes().hex()


def of_label(
    raw_label: NDArray[Any],
    valid_HW: NDArray[np.bool_] | None,
    palette_PC: NDArray[np.uint8] | None,
    unlabelled: int = 0,
) -> LabelFacts:
    """Look at a label.

    Args:
        raw_label: H×W integers, or H×W×3 uint8 colours.
        valid_HW: where the image holds data. None: everywhere.
        palette_PC: P×3 red, green, blue, where the label file has a palette.
        unlabelled: pixels that the label file says have no label.
    """
    rows, columns = raw_label.shape[:2]
    inside = raw_label
    if valid_HW is not None and valid_HW.shape == raw_label.shape[:2]:
        inside = raw_label[valid_HW]
    elif raw_label.ndim == 3:
        inside = raw_label.reshape(-1, 3)
    colours = raw_label.ndim == 3
    counts = count_colours(inside) if colours else count_values(inside)
    palette = {} if colours else _colours_of(palette_PC, counts)
    return LabelFacts(rows, columns, raw_label.dtype.name, colours, counts, palette, unlabelled)


def count_values(values: NDArray[Any]) -> dict[int, int]:
    """Count each value of an array of integers; labels are made of runs, which are counted as one.

    Bytes are looked at by words of eight, in a third of the time of a histogram of pixels.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype == np.uint8:
        counts = _count_bytes(flat)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    each, lengths = _runs(flat)
    found, index = np.unique(each, return_inverse=True)
    counts = np.bincount(index, lengths, minlength=len(found))  # float64: exact up to 2^53
    return dict(zip(found.tolist(), counts.astype(np.int64).tolist(), strict=True))


_EIGHT_TIMES = np.uint64(0x0101010101010101)
"""Times a byte: the word of eight such bytes."""


def _count_bytes(flat: NDArray[np.uint8]) -> NDArray[np.int64]:
    whole = flat.size - flat.size % 8
    words, firsts = flat[:whole].view(np.uint64), flat[:whole:8]
    mixed = np.flatnonzero(words != firsts * _EIGHT_TIMES)
    counts: NDArray[np.int64] = 8 * np.bincount(firsts, minlength=256)
    counts -= 8 * np.bincount(firsts[mixed], minlength=256)
    for rest in (words[mixed].view(np.uint8), flat[whole:]):
        counts += np.bincount(rest, minlength=256)
    return counts


def _runs(flat: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the value and the length of each run of equal values."""
    if flat.size == 0:
        return flat, np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[starts], np.diff(starts, append=flat.size)


def count_colours(pixels_PC: NDArray[np.uint8]) -> dict[int, int]:
    """Count each colour of P×3 pixels, as 0xRRGGBB."""
    wide_PC = pixels_PC.astype(np.int32)
    return count_values(wide_PC[:, 0] << 16 | wide_PC[:, 1] << 8 | wide_PC[:, 2])


def _colours_of(palette_PC: NDArray[np.uint8] | None, counts: dict[int, int]) -> dict[int, int]:
    if palette_PC is None:
        return {}
    codes_P = [red << 16 | green << 8 | blue for red, green, blue in palette_PC.tolist()]
    return {value: codes_P[value] for value in counts if value < len(codes_P)}
