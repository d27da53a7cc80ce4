"""Whether two rasters lie on each other, pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from terrazzo.base.errors import DataError
from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.rasters.turns import on_one_turn, turn_of

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""Some of what GDAL and PROJ say comes through rasterio as it is."""

_REPROJECT = 'set align = "reproject" (`terrazzo predict`: --align reproject)'


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
            next_step=f"cut them to one grid, or {_REPROJECT}",
        )
    offset = _offset(expected, found)
    apart = offset > 1e-3  # what rounding in a file's numbers may do to a large scene
    one_system = same_crs(expected.crs, found.crs)
    if apart and not one_system and None not in (expected.crs, found.crs):
        # Numbers of two systems tell no distance in pixels.
        raise DataError(
            "SEG-D025",
            "the rasters of a scene differ in CRS",
            file=other,
            observed=f"{crs_text(found.crs)}, {_transform_text(found)}",
            allowed=f"{crs_text(expected.crs)}, {_transform_text(expected)}, as in {image}",
            next_step=_REPROJECT,
        )
    if apart:
        raise DataError(
            "SEG-D026",
            f"the rasters of a scene do not lie on each other: up to {offset:.2f} px apart",
            file=other,
            observed=_transform_text(found),
            allowed=f"{_transform_text(expected)}, as in {image}",
            next_step=f"export the file on the grid of the image, or {_REPROJECT}",
        )
    if one_system:
        return
    distance = moved(expected, found.crs)
    # Without a tolerance no measure will do: GDAL knows no shift from a datum it does not know.
    if tolerance == 0 or distance > tolerance:
        raise DataError(
            "SEG-D025",
            "the rasters of a scene differ in CRS",
            file=other,
            observed=f"{crs_text(found.crs)}; from one to the other points move by "
            + (f"{distance:.4f} px" if math.isfinite(distance) else "an unknown distance"),
            allowed=f"{crs_text(expected.crs)}, as in {image}",
            next_step=f"{_REPROJECT}; or, if both mean the same place, crs_tolerance to the "
            "pixels they may differ by",
        )


def require_crs(path: Path, found: Any, expected: Any) -> None:
    """Refuse what cannot be brought onto another grid.

    Raises:
        DataError: SEG-D027.
    """
    if found is None or expected is None:
        raise DataError(
            "SEG-D027",
            "without a CRS a file cannot be brought onto another grid",
            file=path,
            observed=f"its CRS {crs_text(found)}, that of the image {crs_text(expected)}",
            next_step='give both a CRS, or use align = "exact" for files of one grid',
        )


def neighbours(grids: Sequence[RasterInfo], margin: float) -> tuple[tuple[int, ...], ...]:
    """Return, for each raster, those others that may lie within `margin` pixels of it.

    Judged by upright boxes, in degrees where there is a CRS: some that are named are further away.
    Those on both sides of ±180° are near each other.
    """
    outlines = [_outline(grid, margin) for grid in grids]
    systems = np.array([system for system, _ in outlines])
    boxes = np.array([box for _, box in outlines])
    found = []
    for number, (left, bottom, right, top) in enumerate(boxes):
        turns = range(-720, 721, 360) if systems[number] == _DEGREES else (0,)
        near = np.zeros(len(boxes), bool)
        for turn in turns:
            near |= (boxes[:, 0] + turn <= right) & (boxes[:, 2] + turn >= left)
        near &= (boxes[:, 1] <= top) & (boxes[:, 3] >= bottom)
        near &= (systems == systems[number]) & (systems != _NOWHERE)
        near[number] = False
        found.append(tuple(map(int, np.flatnonzero(near))))
    return tuple(found)


_POINTS = 9  # along each side of a raster, by which its place is judged
_NOWHERE, _DEGREES = "nowhere", "degrees"


def _outline(grid: RasterInfo, margin: float) -> tuple[str, tuple[float, float, float, float]]:
    """Return a system of coordinates, and a box in it."""
    columns, rows = _grid_points(grid)
    columns = np.where(columns > grid.columns / 2, columns + margin, columns - margin)
    rows = np.where(rows > grid.rows / 2, rows + margin, rows - margin)
    x, y = grid.to_coordinates(columns, rows)
    system = crs_text(grid.crs) if grid.has_place else _NOWHERE
    if grid.crs is not None:
        try:
            x, y = map(np.array, transform_points(grid.crs, CRS.from_epsg(4326), x, y))
            x, system = _unbroken(x), _DEGREES
        except GDAL_ERRORS:
            pass  # a system of its own, such as that of a building site
    return system, (float(x.min()), float(y.min()), float(x.max()), float(y.max()))


def _unbroken(longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return longitudes of `_grid_points` that do not leap at ±180°."""
    rows = np.unwrap(longitudes.reshape(_POINTS, _POINTS), period=360, axis=1)
    starts = np.unwrap(rows[:, 0], period=360)
    unbroken: NDArray[np.float64] = rows + (starts - rows[:, 0])[:, None]
    return unbroken.ravel()


def boxes_on(grid: RasterInfo, other: RasterInfo, boxes_M4: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where boxes of another raster lie on a grid, grown to whole pixels.

    Args:
        grid: counts the pixels that are returned.
        other: counts those that are given.
        boxes_M4: first row, last row + 1, first column, last column + 1.

    Returns:
        N×4. Each box once; where coordinates go round the earth, also a turn further west and east,
        as a box on the other side of ±180° lies beside the grid there.
    """
    rows_M4, columns_M4 = boxes_M4[:, [0, 0, 1, 1]], boxes_M4[:, [2, 3, 2, 3]]
    x, y = other.to_coordinates(columns_M4.ravel().astype(float), rows_M4.ravel().astype(float))
    if grid.crs is not None and not same_crs(grid.crs, other.crs):
        x, y = map(np.array, transform_points(other.crs, grid.crs, x, y))
    turn = turn_of(grid.crs)
    if turn is not None and not same_crs(grid.crs, other.crs):
        x = on_one_turn(x.reshape(-1, 4), turn).ravel()
    turned = [x] if turn is None else [x, x - turn, x + turn]
    places = [grid.to_pixels(each, y) for each in turned]
    columns, rows = (np.reshape(np.concatenate(a), (-1, 4)) for a in zip(*places, strict=True))
    slack = 1e-3  # what rounding does to a box that lies on whole pixels
    lowest = [np.floor(a.min(axis=1) + slack) for a in (rows, columns)]
    highest = [np.ceil(a.max(axis=1) - slack) for a in (rows, columns)]
    return np.stack([lowest[0], highest[0], lowest[1], highest[1]], axis=1).astype(np.int64)


def _grid_points(size: RasterInfo) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 9×9 points over a raster as columns and rows."""
    columns, rows = np.meshgrid(
        np.linspace(0, size.columns, _POINTS), np.linspace(0, size.rows, _POINTS)
    )
    return columns.ravel(), rows.ravel()


def _offset(expected: RasterInfo, found: RasterInfo) -> float:
    """Return how far the two transforms put the corners apart, in pixels of the first."""
    columns, rows = _grid_points(expected)
    back_columns, back_rows = expected.to_pixels(*found.to_coordinates(columns, rows))
    return float(np.hypot(back_columns - columns, back_rows - rows).max())


def moved(grid: RasterInfo, crs: Any) -> float:
    """Return how far points move from `crs` to that of a grid, in pixels; infinite if unknown."""
    if grid.crs is None or crs is None:
        return math.inf
    columns, rows = _grid_points(grid)
    x, y = grid.to_coordinates(columns, rows)
    try:
        moved_x, moved_y = transform_points(crs, grid.crs, x, y)
    except GDAL_ERRORS:
        return math.inf
    back_columns, back_rows = grid.to_pixels(np.array(moved_x), np.array(moved_y))
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
