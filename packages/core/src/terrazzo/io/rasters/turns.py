"""Coordinates that go round the earth: the same place again a whole turn further on.

Longitudes do, and so does x in a cylindrical projection such as Mercator's. At ±180° files name
one place by two numbers, so that what lies side by side on the ground is a turn apart in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from terrazzo.io.rasters.header import RasterInfo

Span = tuple[float, float]
"""The least and the largest x."""

_NEAR = 1 / 360  # of a turn: a grid nearer than this to ±180° may hold shapes that cross it
_EXACT = 1e-9  # of a turn: a step of a whole one leads to the same place


def turn_of(crs: Any) -> float | None:
    """Return how far on x means the same place again; None: nowhere."""
    return None if crs is None else _turn(crs.to_wkt())


@lru_cache(maxsize=64)
def _turn(wkt: str) -> float | None:
    crs = CRS.from_wkt(wkt)
    if crs.is_geographic:
        return round(2 * math.pi / float(crs.units_factor[1]), 9)
    try:  # A step to the east is as long everywhere, and leads nowhere else.
        x, y = map(
            np.array,
            transform_points(CRS.from_epsg(4326), crs, [10, 11, 100, 101], [0, 0, 50, 50]),
        )
    except (RasterioError, CPLE_BaseError):
        return None
    if not np.isfinite([x, y]).all():
        return None
    degree = float(x[1] - x[0])
    is_cylinder = math.isclose(x[3] - x[2], degree, rel_tol=1e-6) and y[0] == y[1] and y[2] == y[3]
    return 360 * degree if is_cylinder and degree > 0 else None


def on_one_turn(x: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Return coordinates with whole turns added: each within half a one of the first of its row."""
    turned: NDArray[np.float64] = x - np.round((x - x[..., :1]) / turn) * turn
    return turned


def brought_to(geometries: Sequence[Any], grid: RasterInfo) -> list[Any]:
    """Return shapes on the turn a grid lies on; those that lie there already are left alone.

    At a grid near ±180° a step of more than half a turn from one corner to the next is taken the
    short way, across ±180°; a step of a whole turn, as around the world, is not.

    Args:
        geometries: as GeoJSON has them, in the coordinates of the grid.
        grid: where they belong.
    """
    turn = turn_of(grid.crs)
    if turn is None or not geometries:
        return list(geometries)
    span = _span_of(grid)
    at_seam = span[1] - span[0] < turn / 2 and _holds_seam(span, turn)
    return [_brought(each, span, turn, at_seam) for each in geometries]


def _span_of(grid: RasterInfo) -> Span:
    columns = np.array([0, grid.columns, 0, grid.columns], np.float64)
    rows = np.array([0, 0, grid.rows, grid.rows], np.float64)
    x, _ = grid.to_coordinates(columns, rows)
    return float(x.min()), float(x.max())


def _holds_seam(span: Span, turn: float) -> bool:
    low, high = span[0] - _NEAR * turn, span[1] + _NEAR * turn
    first = math.ceil(low / turn - 0.5)
    return (first + 0.5) * turn <= high


def _brought(geometry: Any, span: Span, turn: float, at_seam: bool) -> Any:
    kind = geometry["type"]
    if kind == "GeometryCollection":
        parts = [_brought(each, span, turn, at_seam) for each in geometry["geometries"]]
        return {**geometry, "geometries": parts}
    single = kind.removeprefix("Multi")
    parts = [geometry["coordinates"]] if kind == single else geometry["coordinates"]
    placed, is_moved = [], False
    for part in parts:
        rings = _rings(part, single)
        bent = [_the_short_way(ring, turn) for ring in rings] if at_seam else rings
        x = [corner[0] for ring in bent for corner in ring]
        shifts = _shifts((min(x), max(x)), span, turn)
        is_left_alone = bent == rings and shifts == [0]
        is_moved |= not is_left_alone
        placed += [part] if is_left_alone else [_part(bent, s * turn, single) for s in shifts]
    if not is_moved:
        return geometry
    if len(placed) == 1:
        return {"type": single, "coordinates": placed[0]}
    return {"type": f"Multi{single}", "coordinates": placed}


Ring = Sequence[Sequence[float]]


def _rings(part: Any, kind: str) -> list[Ring]:
    """Return the corners of a point, of a line, or of each ring of a polygon."""
    return list(part) if kind == "Polygon" else [part] if kind == "LineString" else [[part]]


def _part(rings: Sequence[Ring], shift: float, kind: str) -> Any:
    moved = [[(corner[0] + shift, corner[1]) for corner in ring] for ring in rings]
    return moved if kind == "Polygon" else moved[0] if kind == "LineString" else moved[0][0]


def _the_short_way(ring: Ring, turn: float) -> Ring:
    """Return a ring or a line whose steps are at most half a turn long."""
    x = np.array([corner[0] for corner in ring], np.float64)
    steps = np.diff(x)
    far = (np.abs(steps) > turn / 2) & (np.abs(steps) < turn * (1 - _EXACT))
    turns = np.concatenate([[0], np.cumsum(np.where(far, -np.sign(steps), 0))])
    about_a_pole = tuple(ring[0]) == tuple(ring[-1]) and turns[-1] != 0
    if about_a_pole or not far.any():
        return ring
    return [(float(a), corner[1]) for a, corner in zip(x + turns * turn, ring, strict=True)]


def _shifts(part: Span, span: Span, turn: float) -> list[int]:
    """Return by how many turns a part lies on the grid; the nearest where it does nowhere."""
    nearest = round(((span[0] + span[1]) - (part[0] + part[1])) / 2 / turn)
    on_grid = [
        shift
        for shift in (nearest - 1, nearest, nearest + 1)
        if part[0] + shift * turn < span[1] and part[1] + shift * turn > span[0]
    ]
    return on_grid or [nearest]
