"""A raster of classes, read some rows at a time: pixels and areas of its classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.data.ground import PixelAreas
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo

CLASS_TAG = "TERRAZZO_CLASSES"
"""Where a map keeps the names of its classes: a JSON list in the order of their ids."""
ROWS_AT_ONCE = rasters.BLOCK
MOST_CLASSES = 1000
_FEW = 256  # ids of 8 bits
_COMPARED = 24  # classes that are counted one after the other; more are counted by `bincount`
_PIXELS_AT_ONCE = 1 << 18
_WIDEST = 1 << 16  # between the smallest id and the largest


@dataclass(frozen=True, slots=True)
class ClassMap:
    """A GeoTIFF of class ids; made by `open_map`.

    Attributes:
        path: the file.
        info: what it says of itself.
        names: of the classes in the order of their ids, as the file has them; maybe none.
    """

    path: Path
    info: RasterInfo
    names: tuple[str, ...]

    def name_of(self, id_: int) -> str:
        """Return the name of a class; one that the file does not name is called by its id."""
        return self.names[id_] if 0 <= id_ < len(self.names) else f"class {id_}"

    def groups(self) -> Iterator[tuple[NDArray[np.integer], NDArray[np.bool_]]]:
        """Yield class ids R×W with where there are any, from the first row to the last.

        Raises:
            DataError: as `rasters.read_label_with_mask`.
        """
        with rasters.small_cache():
            for row in range(0, self.info.rows, ROWS_AT_ONCE):
                yield self.rows(row, min(ROWS_AT_ONCE, self.info.rows - row))

    def rows(self, first: int, count: int) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """Return class ids of some rows, and where there are any."""
        return rasters.read_label_with_mask(self.path, first, 0, count, self.info.columns)


def open_map(path: Path) -> ClassMap:
    """Look at a raster of classes.

    Raises:
        DataError: as `rasters.info`; SEG-D007, it is not one band of integers; SEG-D008, it is
            compressed with losses.
    """
    info = rasters.info(path)
    rasters.read_label_with_mask(path, 0, 0, 1, 1)  # refuses what holds no ids
    names: object = None
    with suppress(ValueError):
        names = json.loads(rasters.tags(path).get(CLASS_TAG, "null"))
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        names = []
    return ClassMap(path, info, tuple(names))


@dataclass(frozen=True, slots=True)
class RowSums:
    """What R rows hold of V classes.

    Attributes:
        first_row: of the R.
        ids_V: of the classes that are there, in order.
        pixels_RV: int64.
        areas_RV: square metres on the ground; NaN where the map does not say where it lies.
        nodata_R: pixels without a class.
        nodata_areas_R: square metres of these.
    """

    first_row: int
    ids_V: NDArray[np.int64]
    pixels_RV: NDArray[np.int64]
    areas_RV: NDArray[np.float64]
    nodata_R: NDArray[np.int64]
    nodata_areas_R: NDArray[np.float64]


def sums_by_row(
    groups: Iterable[tuple[NDArray[np.integer], NDArray[np.bool_]]], info: RasterInfo, path: Path
) -> Iterator[RowSums]:
    """Yield what each group of rows holds of each class.

    Args:
        groups: class ids R×W and where there are any, from the first row to the last.
        info: of the map.
        path: of the map, for messages.

    Raises:
        DataError: SEG-D081, the numbers are too many or too far apart to be ids of classes.
    """
    areas, first = PixelAreas(info), 0
    found = np.arange(0)
    for labels_RW, valid_RW in groups:
        numbers_RW, low, span = _from_zero(labels_RW, valid_RW, path)
        found, pixels = _counted(numbers_RW, valid_RW, span, likely=found)
        square_metres = areas.of_counts(first, pixels)
        if square_metres is None:
            square_metres = np.empty(pixels.shape)
            for row, codes_W in enumerate(_codes(numbers_RW, valid_RW, found, span)):
                square_metres[row] = areas.sums(first + row, valid_RW[row], codes_W, pixels[row])
        used = np.flatnonzero(pixels[:, :-1].any(axis=0))  # others are nodata alone
        if len(used) > MOST_CLASSES:
            raise no_class_map(path, f"{len(used)} different numbers")
        yield RowSums(
            first,
            found[used].astype(np.int64) + low,
            pixels[:, used],
            square_metres[:, used],
            pixels[:, -1],
            square_metres[:, -1],
        )
        first += len(labels_RW)


def in_cache(labels_RW: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield some rows after the other, so few that what is made of them stays in a core's cache."""
    step = max(1, _PIXELS_AT_ONCE // max(labels_RW.shape[1], 1))
    for row in range(0, len(labels_RW), step):
        yield labels_RW[row : row + step]


def counts_by_row(
    labels_RW: NDArray[np.integer],
    ids_N: NDArray[np.integer],
    valid_RW: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Count the pixels of some classes in each row.

    Args:
        labels_RW: class ids of 0 and more.
        ids_N: of the classes to count.
        valid_RW: where pixels count; None: everywhere.

    Returns:
        R×N int64.
    """
    counts_RN = np.empty((len(labels_RW), len(ids_N)), np.int64)
    if len(ids_N) > _COMPARED or labels_RW.dtype.itemsize > 1:
        most = int(ids_N.max(initial=0)) + 1
        for row, labels_W in enumerate(labels_RW):
            if valid_RW is not None:
                labels_W = labels_W[valid_RW[row]]
            counts_RN[row] = np.bincount(labels_W, minlength=most)[ids_N]
        return counts_RN
    # Compared byte by byte, several classes take less time than one `bincount`, which makes eight
    # bytes of each label.
    row = 0
    for some_RW in in_cache(labels_RW):
        rows = slice(row, row + len(some_RW))
        for at, id_ in enumerate(ids_N.tolist()):  # NumPy's own would make eight bytes, too
            is_it_RW = some_RW == id_
            if valid_RW is not None:
                is_it_RW &= valid_RW[rows]
            counts_RN[rows, at] = _true_by_row(is_it_RW)
        row += len(some_RW)
    return counts_RN


def _true_by_row(true_RW: NDArray[np.bool_]) -> NDArray[np.int32]:
    bytes_RW = np.ascontiguousarray(true_RW).view(np.uint8)
    sums_R1 = cv2.reduce(bytes_RW, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(sums_R1[:, 0], np.int32)


def _counted(
    numbers_RW: NDArray[np.integer],
    valid_RW: NDArray[np.bool_],
    span: int,
    likely: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return which numbers there are and how often in each row, invalid pixels at last.

    Args:
        numbers_RW: 0…span-1.
        valid_RW: others are counted as invalid.
        span: how many numbers there may be.
        likely: numbers that were there before; others cost the time of looking for them.

    Returns:
        N numbers in order, perhaps some that are not there, and counts R×(N+1).
    """
    rows, columns = numbers_RW.shape
    likely = likely[likely < span]
    counts = np.empty((rows, len(likely) + 1), np.int64)
    counts[:, -1] = columns - _true_by_row(valid_RW)
    everywhere = not counts[:, -1].any()
    if span <= _FEW and 0 < len(likely) <= _COMPARED:
        counts[:, :-1] = counts_by_row(numbers_RW, likely, None if everywhere else valid_RW)
        if counts.sum() == rows * columns:
            return likely, counts
    there = _numbers_there(numbers_RW, valid_RW, span)
    found = np.union1d(there, likely)
    if len(found) > _COMPARED:  # too many to be compared: none that is not there is carried on
        found = there
    counts = np.empty((rows, len(found) + 1), np.int64)
    for row, codes_W in enumerate(_codes(numbers_RW, valid_RW, found, span)):
        counts[row] = np.bincount(codes_W, minlength=len(found) + 1)
    return found, counts


def _numbers_there(
    numbers_RW: NDArray[np.integer], valid_RW: NDArray[np.bool_], span: int
) -> NDArray[np.intp]:
    is_there = np.zeros(span, bool)
    for numbers_W, valid_W in zip(numbers_RW, valid_RW, strict=True):
        is_there[numbers_W[valid_W]] = True
    return np.flatnonzero(is_there)


def _codes(
    numbers_RW: NDArray[np.integer], valid_RW: NDArray[np.bool_], found: NDArray[np.intp], span: int
) -> Iterator[NDArray[np.intp]]:
    """Yield the place of each pixel's number in `found`, row by row; its end where invalid."""
    table = np.zeros(span, np.intp)
    table[found] = np.arange(len(found))
    for numbers_W, valid_W in zip(numbers_RW, valid_RW, strict=True):
        codes_W = np.take(table, numbers_W)
        np.copyto(codes_W, len(found), where=~valid_W)
        yield codes_W


def _from_zero(
    labels_RW: NDArray[np.integer], valid_RW: NDArray[np.bool_], path: Path
) -> tuple[NDArray[np.integer], int, int]:
    """Return the ids counted from a smallest one; that one; and how many there may be.

    Ids of 16 bits and fewer are taken as they are: it is much faster than to look for their range.
    """
    kind = np.iinfo(labels_RW.dtype)
    if kind.max - kind.min < _WIDEST:
        if kind.min == 0:
            return labels_RW, 0, kind.max + 1
        return labels_RW.astype(np.int32) - kind.min, kind.min, kind.max - kind.min + 1
    inside = labels_RW[valid_RW].astype(np.int64)
    if inside.size == 0:
        return np.zeros(labels_RW.shape, np.int64), 0, 1
    low, high = int(inside.min()), int(inside.max())
    if high - low >= _WIDEST:
        raise no_class_map(path, f"numbers from {low} to {high}")
    return np.where(valid_RW, labels_RW.astype(np.int64) - low, 0), low, high - low + 1


def no_class_map(path: Path, observed: str) -> DataError:
    """Compose the error for a raster whose numbers are no classes."""
    return DataError(
        "SEG-D081",
        "the raster does not look like a map of classes",
        file=path,
        observed=observed,
        allowed=f"ids of at most {MOST_CLASSES} classes, fewer than {_WIDEST} apart",
        next_step="name a map of classes, not an image or a map of measured values",
    )
