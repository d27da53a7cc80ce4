"""Areas within a distance in metres of lines and points that are given in longitude and latitude.

A degree is not equally long in both directions, so each shape is taken in pieces onto a plane that
touches the ellipsoid there (azimuthal equidistant), where distances are those on the ground to
1e-5, and its outline is brought back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.io.rasters.header import RasterInfo

Corners = NDArray[np.float64]

_PIECE = 0.5
"""Degrees of a line that are taken onto one plane."""
_STEP = 0.001
"""Degrees between corners. A straight line in degrees is a curve on the ground: between corners as
near as these the two are less than a centimetre apart up to 89° of latitude."""
_METRES_A_DEGREE = 111_000


def widened(shape: Any, radius: float, grid: RasterInfo) -> Any:
    """Return the area within `radius` of a line or point, with round ends.

    Args:
        shape: of shapely, in the CRS of the grid, which is one of longitude and latitude.
        radius: metres on the ellipsoid of that CRS.
        grid: where the area will be drawn; its pixels say how closely curves are followed.

    Raises:
        ValueError: corners beyond 90 degrees of latitude.
    """
    import pyproj  # here, as only these need it
    import shapely

    crs = pyproj.CRS.from_wkt(grid.crs.to_wkt())
    degrees = float(np.rad2deg(grid.crs.units_factor[1]))  # of one unit
    step = max(_STEP, min(grid.pixel_size) * degrees)
    areas = []
    for corners_N2 in _pieces(shape, degrees, step):
        if not np.abs(corners_N2[:, 1]).max() <= 90:
            raise ValueError(corners_N2)
        middle = (corners_N2.min(axis=0) + corners_N2.max(axis=0)) / 2
        to_plane, to_degrees = _plane(crs.ellipsoid, *middle)
        corners = to_plane(corners_N2)
        on_plane = shapely.Point(corners[0]) if len(corners) == 1 else shapely.LineString(corners)
        area = on_plane.buffer(radius).segmentize(step * _METRES_A_DEGREE)
        areas.append(shapely.transform(area, lambda a, back=to_degrees: back(a) / degrees))
    return shapely.union_all(areas)


def _pieces(shape: Any, degrees: float, step: float) -> Iterator[Corners]:
    """Yield points, 1×2, and parts of lines, N×2, in degrees; a part begins where one ends."""
    import shapely

    for part in shapely.get_parts(shape):
        corners_N2 = shapely.get_coordinates(part) * degrees
        if part.geom_type == "Point":
            yield corners_N2
            continue
        corners_N2 = shapely.get_coordinates(shapely.LineString(corners_N2).segmentize(step))
        lengths = np.hypot(*np.diff(corners_N2, axis=0).T)
        number = (np.cumsum(lengths) // _PIECE).astype(np.int64)
        ends = [0, *(np.flatnonzero(np.diff(number)) + 1), len(corners_N2) - 1]
        for first, last in itertools.pairwise(ends):
            if last > first:
                yield corners_N2[first : last + 1]


def _plane(
    ellipsoid: Any, longitude: float, latitude: float
) -> tuple[Callable[[Corners], Corners], Callable[[Corners], Corners]]:
    """Return the ways to a plane that touches the ellipsoid at a place, and back."""
    import pyproj

    plane = pyproj.Proj(
        proj="aeqd",
        lon_0=longitude,
        lat_0=latitude,
        a=ellipsoid.semi_major_metre,
        b=ellipsoid.semi_minor_metre,
    )

    def to_plane(corners_N2: Corners) -> Corners:
        return np.stack(plane(corners_N2[:, 0], corners_N2[:, 1]), axis=1)

    def to_degrees(corners_N2: Corners) -> Corners:
        x, y = plane(corners_N2[:, 0], corners_N2[:, 1], inverse=True)
        # PROJ answers between -180 and 180; an area across that stays in one piece.
        return np.stack([x - np.round((x - longitude) / 360) * 360, y], axis=1)

    return to_plane, to_degrees
