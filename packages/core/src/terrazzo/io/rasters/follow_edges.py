"""Shapes brought from one CRS to another along their edges, and not by their corners alone.

A line that is straight in one CRS is bent in another: at 52° north, the southern side of a
rectangle in longitude and latitude, 100 km long, lies up to 250 m beside the straight line between
its corners in UTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import TransformError
from rasterio.warp import transform as transform_points

from terrazzo.io.rasters.header import RasterInfo

_DEVIATION = 0.05
"""Pixels by which an edge may leave its place."""
_HALVINGS = 16


def along_edges(geometry: Any, crs: Any, onto: RasterInfo) -> Any:
    """Return a polygon, or several, in the CRS of a grid, with points added where edges bend.

    Args:
        geometry: as GeoJSON has it; other kinds come corner by corner.
        crs: of its coordinates.
        onto: the grid, with a CRS.

    Raises:
        TransformError: a point has no place in the CRS of the grid.
    """
    if geometry["type"] == "GeometryCollection":
        parts = [along_edges(each, crs, onto) for each in geometry["geometries"]]
        return {**geometry, "geometries": parts}
    return {**geometry, "coordinates": _nested(geometry["coordinates"], crs, onto)}


def _nested(coordinates: Any, crs: Any, onto: RasterInfo) -> Any:
    """Go down to the rows of points."""
    first = coordinates[0]
    if isinstance(first, int | float):  # a single point
        x, y = transform_points(crs, onto.crs, [first], [coordinates[1]])
        return (x[0], y[0])
    if not isinstance(first[0], int | float):
        return [_nested(each, crs, onto) for each in coordinates]
    points_N2 = np.array([point[:2] for point in coordinates], float)
    return [tuple(point) for point in _line(points_N2, crs, onto).tolist()]


def _line(points_N2: NDArray[np.float64], crs: Any, onto: RasterInfo) -> NDArray[np.float64]:
    placed_N2 = _transform(points_N2, crs, onto)
    for _ in range(_HALVINGS):
        middles_M2 = (points_N2[1:] + points_N2[:-1]) / 2
        placed_middles_M2 = _transform(middles_M2, crs, onto)
        apart_M = _pixels_apart(placed_middles_M2, (placed_N2[1:] + placed_N2[:-1]) / 2, onto)
        bent = np.flatnonzero(apart_M > _DEVIATION)
        if not len(bent):
            break
        points_N2 = np.insert(points_N2, bent + 1, middles_M2[bent], axis=0)
        placed_N2 = np.insert(placed_N2, bent + 1, placed_middles_M2[bent], axis=0)
    return placed_N2


def _transform(points_N2: NDArray[np.float64], crs: Any, onto: RasterInfo) -> NDArray[np.float64]:
    if not len(points_N2):
        return points_N2
    x, y = transform_points(crs, onto.crs, points_N2[:, 0], points_N2[:, 1])
    placed_N2 = np.stack([x, y], axis=1)
    if not np.isfinite(placed_N2).all():
        msg = "some points have no place in the CRS of the image"
        raise TransformError(msg)
    return placed_N2


def _pixels_apart(
    one_N2: NDArray[np.float64], other_N2: NDArray[np.float64], onto: RasterInfo
) -> NDArray[np.float64]:
    one, other = (onto.to_pixels(each[:, 0], each[:, 1]) for each in (one_N2, other_N2))
    return np.hypot(one[0] - other[0], one[1] - other[1])
