"""Pixels of images, and which of them count."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags
from rasterio.windows import Window

from terrazzo.errors import DataError
from terrazzo.rasters.handles import gdal_errors, handle
from terrazzo.rasters.header import image_bands, info

BYTE_LIMIT = 1 << 31
"""Largest array `read` makes; a larger scene is read by window."""

IMAGE_DTYPES = ("uint8", "uint16", "float32")

_STRIP = 256  # rows looked at together


def read(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a whole GeoTIFF; see `read_window`.

    Raises:
        DataError: as `read_window`; SEG-D031 it would take more than `BYTE_LIMIT` bytes.
    """
    size = info(path)
    needed = size.rows * size.columns * size.bands * np.dtype(size.dtype).itemsize
    if needed > BYTE_LIMIT:
        raise DataError(
            "SEG-D031",
            "the raster is too large to be read at once",
            file=path,
            observed=f"{size.rows} rows × {size.columns} columns × {size.bands} bands of "
            f"{size.dtype}: {needed} bytes",
            allowed=f"{BYTE_LIMIT} bytes",
            next_step="cut it into tiles",
        )
    return read_window(path, 0, 0, size.rows, size.columns)


def read_window(
    path: Path,
    row: int,
    column: int,
    rows: int,
    columns: int,
    bands: tuple[int, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a part of a GeoTIFF that lies inside it; safe to call from several threads.

    A pixel is invalid where every band equals nodata: one band alone may reach that value in a
    dark but true pixel. It is invalid too where any band is NaN, and set to 0 there: a NaN would
    spread through every convolution. It is invalid where an alpha band or a mask inside the file
    says so.

    Args:
        path: a GeoTIFF file.
        row: first row.
        column: first column.
        rows: height in pixels.
        columns: width in pixels.
        bands: positions in `RasterInfo.band_names`, from 0. None: all of them.

    Returns:
        H×W×C of one of `IMAGE_DTYPES`, and H×W bool, False where there is no data.

    Raises:
        DataError: as `info`; SEG-D011 truncated or damaged; SEG-D019 another data type; SEG-D022
            an infinite pixel; SEG-D029 part of the window was never written.
    """
    dataset = handle(path)
    dtype = next((d for d in dataset.dtypes if d not in IMAGE_DTYPES), None)
    if dtype is not None:
        raise DataError(
            "SEG-D019",
            "this kind of pixel is not read",
            file=path,
            observed=dtype,
            allowed=", ".join(IMAGE_DTYPES),
            next_step="convert the raster, e.g. `gdal_translate -ot Float32`",
        )
    numbers = image_bands(dataset)
    indexes = numbers if bands is None else tuple(numbers[band] for band in bands)
    window = Window(column, row, columns, rows)
    image_CHW = read_bands(path, dataset, window, indexes)
    valid_HW = _mask(path, dataset, window)
    if image_CHW.dtype.kind == "f":
        for band_HW in image_CHW:
            valid_HW &= ~np.isnan(band_HW)
        image_CHW[:, ~valid_HW] = 0
        _refuse_infinite(path, dataset, image_CHW, row, column, indexes)
    if dataset.nodata is not None:
        some_HW = np.zeros(valid_HW.shape, bool)
        for band_HW in image_CHW:
            some_HW |= band_HW != dataset.nodata
        valid_HW &= some_HW
    return np.ascontiguousarray(np.moveaxis(image_CHW, 0, 2)), valid_HW


def _mask(path: Path, dataset: Any, window: Window) -> NDArray[np.bool_]:
    """Return where an alpha band or an inner mask lets pixels count."""
    alpha = set(dataset.indexes) - set(image_bands(dataset))
    if alpha:
        alpha_CHW = read_bands(path, dataset, window, tuple(alpha))
        valid_HW: NDArray[np.bool_] = np.logical_and.reduce(alpha_CHW > 0)
        return valid_HW
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        with gdal_errors(path):
            inner_HW: NDArray[np.bool_] = dataset.read_masks(1, window=window) > 0
        return inner_HW
    return np.ones((int(window.height), int(window.width)), dtype=bool)


def _refuse_infinite(
    path: Path,
    dataset: Any,
    image_CHW: NDArray[Any],
    row: int,
    column: int,
    indexes: tuple[int, ...],
) -> None:
    infinite = np.isinf(image_CHW)
    if dataset.nodata is not None and math.isinf(dataset.nodata):
        infinite &= image_CHW != dataset.nodata
    if infinite.any():
        band, y, x = (int(axis[0]) for axis in np.nonzero(infinite))
        raise DataError(
            "SEG-D022",
            "the raster has infinite pixels",
            file=path,
            observed=f"{int(infinite.sum())} px, first in band {indexes[band]} at row {row + y}, "
            f"column {column + x}",
            allowed="finite numbers; NaN for no data",
            next_step="set these pixels to NaN or to the nodata value",
        )


def undeclared_nan(path: Path) -> tuple[int, str] | None:
    """Look for NaN in a raster of floats whose nodata value is not NaN; reads strips of it.

    Returns:
        How many values are NaN, and where the first is, for a message; None: there is none, or the
        file says that NaN means no data.

    Raises:
        DataError: as `read_window`.
    """
    dataset = handle(path)
    declared = dataset.nodata is not None and math.isnan(dataset.nodata)
    if declared or np.dtype(dataset.dtypes[0]).kind != "f":
        return None
    count, first = 0, ""
    for row in range(0, dataset.height, _STRIP):
        strip = Window(0, row, dataset.width, min(_STRIP, dataset.height - row))
        nan_CHW = np.isnan(read_bands(path, dataset, strip))
        count += int(np.count_nonzero(nan_CHW))
        if count and not first:
            band, y, x = (int(axis[0]) for axis in np.nonzero(nan_CHW))
            first = f"band {band + 1}, row {row + y}, column {x}"
    return (count, first) if count else None


def read_bands(
    path: Path, dataset: Any, window: Window, indexes: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """Return C×H×W of the bands `indexes`, from 1; None: all of them, alpha too."""
    assert 0 <= window.row_off <= dataset.height - window.height
    assert 0 <= window.col_off <= dataset.width - window.width
    if dataset.nodata is None:
        refuse_unwritten(path, dataset, window)
    bands = list(indexes or dataset.indexes)
    # Pixel by pixel, as models want them: GDAL puts them there in one pass.
    values_HWC = np.empty((window.height, window.width, len(bands)), dataset.dtypes[bands[0] - 1])
    values_CHW: NDArray[Any] = np.moveaxis(values_HWC, 2, 0)
    with gdal_errors(path):
        dataset.read(bands, window=window, out=values_CHW)
    return values_CHW


def refuse_unwritten(path: Path, dataset: Any, window: Window) -> None:
    """Refuse blocks that are not in the file: GDAL reads them as 0, which may be a class."""
    height, width = dataset.block_shapes[0]
    last_row, last_column = window.row_off + window.height - 1, window.col_off + window.width - 1
    bands = dataset.indexes if dataset.interleaving is Interleaving.band else (1,)
    unwritten = [
        (block_row * height, block_column * width)
        for band in bands
        for block_row in range(window.row_off // height, last_row // height + 1)
        for block_column in range(window.col_off // width, last_column // width + 1)
        if dataset.get_tag_item(f"BLOCK_OFFSET_{block_column}_{block_row}", "TIFF", bidx=band)
        is None
    ]
    if unwritten:
        raise DataError(
            "SEG-D029",
            "part of the raster was never written, and it declares no nodata value",
            file=path,
            observed=f"{len(unwritten)} blocks of {height}×{width} px, first at row "
            f"{unwritten[0][0]}, column {unwritten[0][1]}",
            next_step="write the file again, or give it a nodata value",
        )
