"""Pixels of labels, exactly as stored or brought onto another grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from terrazzo.base.errors import DataError
from terrazzo.io.rasters.handles import Handle, handle, info
from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.rasters.read_images import read_bands, read_mask, read_warped
from terrazzo.io.rasters.tiff_kinds import refuse_lossy


def read_label(path: Path, kind: Literal["index", "colour"]) -> NDArray[Any]:
    """Read a whole GeoTIFF of labels, exactly as stored.

    Returns:
        H×W integers for ``index``, H×W×3 uint8 for ``colour``.

    Raises:
        DataError: as `info`; SEG-D007 not one integer band, or three of uint8; SEG-D008 compressed
            with losses; SEG-D011 truncated or damaged; SEG-D029 part of it was never written, which
            would read as class 0.
    """
    size = info(path)
    bands = len(handle(path).image_bands)
    fits = (
        bands == 1 and np.dtype(size.stored_dtype).kind in "ui"
        if kind == "index"
        else bands == 3 and size.stored_dtype == "uint8"
    )
    if not fits:
        raise DataError(
            "SEG-D007",
            f"the raster does not hold a mask of the kind {kind!r}",
            file=path,
            observed=f"{bands} band(s) of {size.stored_dtype}",
            allowed="1 band of integers (index), 3 bands of uint8 (colour)",
            next_step="convert the mask, or set mask_kind in data.options",
        )
    return read_label_window(path, 0, 0, size.rows, size.columns)


def _refuse_lossy(opened: Handle) -> None:
    refuse_lossy(opened.path, opened.dataset)
    for source in opened.sources:
        refuse_lossy(source, handle(source).dataset)


def read_label_window(path: Path, row: int, column: int, rows: int, columns: int) -> NDArray[Any]:
    """Read a part of a GeoTIFF of labels that lies inside it.

    Returns:
        H×W where the file has one band, else H×W×C; the file's own dtype.

    Raises:
        DataError: as `read_label`.
    """
    opened = handle(path)
    _refuse_lossy(opened)
    bands = tuple(opened.dataset.indexes)
    values_HWC = read_bands(opened, Window(column, row, columns, rows), bands)
    return values_HWC[..., 0] if len(bands) == 1 else values_HWC


def read_label_with_mask(
    path: Path, row: int, column: int, rows: int, columns: int, *, onto: RasterInfo | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a part of a GeoTIFF of class indices, and where it holds any.

    Args:
        path: one band of integers, and perhaps an alpha band.
        row: first row.
        column: first column.
        rows: height in pixels.
        columns: width in pixels.
        onto: a grid that the raster is brought onto, nearest neighbour; the window is counted there
            and may reach beyond the raster. None: the raster's own.

    Returns:
        H×W integers, and H×W bool, False at the raster's nodata, under its alpha band or inner
        mask, and outside it.

    Raises:
        DataError: as `read_label`; SEG-D027 no CRS to reproject by.
    """
    opened = handle(path)
    dtype = opened.dataset.dtypes[0]
    if len(opened.image_bands) != 1 or np.dtype(dtype).kind not in "ui":
        raise DataError(
            "SEG-D007",
            "the raster does not hold class indices",
            file=path,
            observed=f"{len(opened.image_bands)} band(s) of {dtype}",
            allowed="1 band of integers",
            next_step="convert the labels",
        )
    _refuse_lossy(opened)
    window, bands = Window(column, row, columns, rows), opened.image_bands
    if onto is None:
        label_HWC, declared = read_bands(opened, window, bands), read_mask(opened, window)
    else:
        label_HWC, declared = read_warped(opened, window, bands, onto, Resampling.nearest)
    if opened.nodata is not None:
        declared &= label_HWC[..., 0] != opened.nodata
    return label_HWC[..., 0], declared
