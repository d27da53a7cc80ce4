"""Whether two rasters lie on each other, pixel by pixel."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from terrazzo.errors import DataError
from terrazzo.rasters.header import RasterInfo


def require_same_grid(
    image: Path, expected: RasterInfo, other: Path, found: RasterInfo, *, tolerance: float = 0.0
) -> None:
    """Refuse a raster that does not lie on the grid of another one, pixel by pixel.

    Args:
        image: the file that gives the grid.
        expected: its header.
        other: the file to check.
        found: its header.
        tolerance: pixels by which points may move from one CRS to the other where these differ.

    Raises:
        DataError: SEG-D009 sizes differ; SEG-D025 CRS differ; SEG-D026 transforms differ.
    """
    if (expected.rows, expected.columns) != (found.rows, found.columns):
        raise DataError(
            "SEG-D009",
            "the rasters of a scene differ in size",
            file=other,
            observed=f"{found.rows}×{found.columns} (rows×columns)",
            allowed=f"{expected.rows}×{expected.columns}, as in {image}",
            next_step='cut them to one grid, or set align = "reproject"',
        )
    offset = _offset(expected, found)
    if offset > 1e-3:  # what rounding in a file's numbers may do to a large scene
        raise DataError(
            "SEG-D026",
            f"the rasters of a scene do not lie on each other: up to {offset:.2f} px apart",
            file=other,
            observed=_transform_text(found),
            allowed=f"{_transform_text(expected)}, as in {image}",
            next_step='export the labels on the grid of the image, or set align = "reproject"',
        )
    if same_crs(expected.crs, found.crs):
        return
    moved = _moved(expected, found)
    # Without a tolerance no measure will do: GDAL knows no shift from a datum it does not know.
    if tolerance == 0 or moved > tolerance:
        raise DataError(
            "SEG-D025",
            "the rasters of a scene differ in CRS",
            file=other,
            observed=f"{crs_text(found.crs)}; from one to the other points move by "
            + (f"{moved:.4f} px" if math.isfinite(moved) else "an unknown distance"),
            allowed=f"{crs_text(expected.crs)}, as in {image}",
            next_step='set align = "reproject"; or, if both mean the same place, crs_tolerance to '
            "the pixels they may differ by",
        )


def _grid_points(size: RasterInfo) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 9×9 points over a raster as columns and rows."""
    columns, rows = np.meshgrid(np.linspace(0, size.columns, 9), np.linspace(0, size.rows, 9))
    return columns.ravel(), rows.ravel()


def _offset(expected: RasterInfo, found: RasterInfo) -> float:
    """Return how far the two transforms put the corners apart, in pixels of the first."""
    columns, rows = _grid_points(expected)
    back_columns, back_rows = ~expected.transform @ (found.transform @ (columns, rows))
    return float(np.hypot(back_columns - columns, back_rows - rows).max())


def _moved(expected: RasterInfo, found: RasterInfo) -> float:
    """Return how far points of the scene move from one CRS to the other, in pixels."""
    if expected.crs is None or found.crs is None:
        return math.inf
    columns, rows = _grid_points(expected)
    x, y = found.transform @ (columns, rows)
    try:
        moved_x, moved_y = transform_points(found.crs, expected.crs, x, y)
    except RasterioError:
        return math.inf
    back_columns, back_rows = ~expected.transform @ (np.array(moved_x), np.array(moved_y))
    distance = float(np.hypot(back_columns - columns, back_rows - rows).max())
    return distance if math.isfinite(distance) else math.inf


def same_crs(one: Any, other: Any) -> bool:
    """Tell whether two CRS are the same, their datum included.

    rasterio takes an unknown datum for equal to any of the same ellipsoid; two EPSG codes are not.
    """
    if one is None or other is None or one != other:
        return one is other
    codes = {crs.to_epsg() for crs in (one, other)} - {None}
    return len(codes) <= 1


def crs_text(crs: Any) -> str:
    """Return a CRS as a user would name it."""
    if crs is None:
        return "none"
    return str(crs.to_string()) if crs.to_epsg() else str(crs.to_wkt())


def _transform_text(info: RasterInfo) -> str:
    t = info.transform
    return f"({t.a:g}, {t.b:g}, {t.c:.9g}, {t.d:g}, {t.e:g}, {t.f:.9g})"
