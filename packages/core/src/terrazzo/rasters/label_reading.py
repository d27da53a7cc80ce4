"""Pixels of labels, exactly as stored or brought onto another grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from terrazzo.errors import DataError
from terrazzo.rasters.grids import crs_text
from terrazzo.rasters.handles import gdal_errors, handle
from terrazzo.rasters.header import RasterInfo, info
from terrazzo.rasters.reading import read_bands, refuse_unwritten


def read_label(path: Path, kind: Literal["index", "colour"]) -> NDArray[Any]:
    """Read a whole GeoTIFF of labels, exactly as stored.

    Returns:
        H×W integers for ``index``, H×W×3 uint8 for ``colour``.

    Raises:
        DataError: as `info`; SEG-D007 not one integer band, or three of uint8; SEG-D011 truncated
            or damaged; SEG-D029 part of it was never written, which would read as class 0.
    """
    size = info(path)
    fits = (
        size.bands == 1 and np.dtype(size.dtype).kind in "ui"
        if kind == "index"
        else size.bands == 3 and size.dtype == "uint8"
    )
    if not fits:
        raise DataError(
            "SEG-D007",
            f"the raster does not hold a mask of the kind {kind!r}",
            file=path,
            observed=f"{size.bands} band(s) of {size.dtype}",
            allowed="1 band of integers (index), 3 bands of uint8 (colour)",
            next_step="convert the mask, or set mask_kind in data.options",
        )
    return read_label_window(path, 0, 0, size.rows, size.columns)


def read_label_window(path: Path, row: int, column: int, rows: int, columns: int) -> NDArray[Any]:
    """Read a part of a GeoTIFF of labels that lies inside it.

    Returns:
        H×W where the file has one band, else H×W×C; the file's own dtype.

    Raises:
        DataError: as `read_label`.
    """
    values_CHW = read_bands(path, handle(path), Window(column, row, columns, rows))
    if values_CHW.shape[0] == 1:
        label_HW: NDArray[Any] = values_CHW[0]
        return label_HW
    return np.ascontiguousarray(np.moveaxis(values_CHW, 0, 2))


def read_label_with_mask(
    path: Path, row: int, column: int, rows: int, columns: int, *, onto: RasterInfo | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a part of a GeoTIFF of class indices, and where it holds any.

    Args:
        path: one band of integers.
        row: first row.
        column: first column.
        rows: height in pixels.
        columns: width in pixels.
        onto: a grid that the raster is brought onto, nearest neighbour; the window is counted there
            and may reach beyond the raster. None: the raster's own.

    Returns:
        H×W integers, and H×W bool, False at the raster's nodata and outside it.

    Raises:
        DataError: as `read_label`; SEG-D027 no CRS to reproject by.
    """
    dataset = handle(path)
    if len(dataset.indexes) != 1 or np.dtype(dataset.dtypes[0]).kind not in "ui":
        raise DataError(
            "SEG-D007",
            "the raster does not hold class indices",
            file=path,
            observed=f"{dataset.count} band(s) of {dataset.dtypes[0]}",
            allowed="1 band of integers",
            next_step="convert the labels",
        )
    if onto is None:
        label_HW = read_bands(path, dataset, Window(column, row, columns, rows))[0]
        declared = np.ones(label_HW.shape, bool)
    else:
        label_HW, declared = _reprojected(path, dataset, row, column, rows, columns, onto)
    if dataset.nodata is not None:
        declared &= label_HW != dataset.nodata
    return label_HW, declared


def _reprojected(
    path: Path, dataset: Any, row: int, column: int, rows: int, columns: int, onto: RasterInfo
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if dataset.crs is None or onto.crs is None:
        raise DataError(
            "SEG-D027",
            "a raster without a CRS cannot be brought onto another grid",
            file=path,
            observed=f"label CRS {crs_text(dataset.crs)}, image CRS {crs_text(onto.crs)}",
            next_step='give both a CRS, or use align = "exact" for rasters of one grid',
        )
    if dataset.nodata is None:
        refuse_unwritten(path, dataset, Window(0, 0, dataset.width, dataset.height))
    place = {"crs": onto.crs, "transform": onto.transform}
    size = {"width": onto.columns, "height": onto.rows}
    window = Window(column, row, columns, rows)
    with (
        gdal_errors(path),
        WarpedVRT(
            dataset,
            **place,
            **size,
            resampling=Resampling.nearest,
            tolerance=1e-3,  # pixels by which GDAL may approximate the way between the CRS
            add_alpha=True,
        ) as warped,
    ):
        values_CHW = warped.read(window=window)
    return values_CHW[0], values_CHW[-1] > 0
