"""Where pixels lie on the ellipsoid of their CRS, and how large areas of them are there.

A projection stretches: a metre of EPSG:3857 is half a metre on the ground at 60 degrees north, and
its square metre a quarter. Nothing here takes a projection at its word.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from terrazzo.io.rasters import RasterInfo

Floats = NDArray[np.float64]

_STRAIGHT = 2_000.0
"""Metres that a side in the CRS may be long before it is taken in parts: then areas are right to
1e-6 at any size of the scene (less so where a side passes within 1,000 km of a pole)."""


_POINTS_AT_ONCE = 1 << 18  # corners of pixels whose places are worked out together
_EVEN = 1e-8  # of an area: what the rounding of coordinates makes of equal ones


@dataclass(frozen=True)
class Ground:
    """From pixels to longitude and latitude, with the ellipsoid these are on.

    Attributes:
        info: of the raster.
        to_geodetic: pyproj transformer from the CRS to longitude and latitude.
        geod: pyproj's ellipsoid.
        radians_per_unit: of longitude and latitude.
    """

    info: RasterInfo
    to_geodetic: Any
    geod: Any
    radians_per_unit: float

    def radians(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitude and latitude; not finite where the CRS does not reach."""
        x, y = self.info.to_coordinates(columns, rows)
        longitude, latitude = self.to_geodetic.transform(x, y, errcheck=False)
        return longitude * self.radians_per_unit, latitude * self.radians_per_unit

    def metres(self, ends: Floats) -> float:
        """Return the length of the geodesic between two places, 2×2: column and row of each."""
        longitude, latitude = self.radians(ends[:, 0], ends[:, 1])
        if not np.isfinite([longitude, latitude]).all():
            return float("nan")
        _, _, length = self.geod.inv(
            longitude[0], latitude[0], longitude[1], latitude[1], radians=True
        )
        return float(length)


def of_raster(info: RasterInfo) -> Ground | None:
    """Return where a raster lies; None where its file does not say, or its CRS has no ellipsoid."""
    if info.crs is None or not info.has_place:
        return None
    import pyproj

    crs = pyproj.CRS.from_wkt(info.crs.to_wkt())
    geodetic = crs.geodetic_crs
    if geodetic is None or geodetic.ellipsoid is None:
        return None
    return Ground(
        info=info,
        to_geodetic=pyproj.Transformer.from_crs(crs, geodetic, always_xy=True),
        geod=geodetic.get_geod(),
        radians_per_unit=geodetic.axis_info[0].unit_conversion_factor,
    )


def pixel_sides(info: RasterInfo) -> tuple[float, float] | None:
    """Return width and height of the pixel in the middle of a raster, in metres on the ground.

    Those of a microscope's image are the physical ones that its file notes. None where the file
    tells neither where it lies nor these.
    """
    ground = of_raster(info)
    if ground is None:
        return info.physical_sides
    centre = np.array([info.columns / 2, info.rows / 2])
    half_pixels = np.array([[-0.5, 0.0], [0.5, 0.0]]), np.array([[0.0, -0.5], [0.0, 0.5]])
    width, height = (ground.metres(centre + ends) for ends in half_pixels)
    return (width, height) if np.isfinite(width + height) else None


def sides_on_map(info: RasterInfo) -> tuple[float, float] | None:
    """Return width and height of pixels in metres of the map, for programs that measure there.

    None where the file does not lie on a map whose unit is the metre.
    """
    crs = info.crs
    if crs is None or not info.has_place or not crs.is_projected:
        return None
    if crs.linear_units_factor[1] != 1:
        return None
    place = info.transform
    return math.hypot(place.a, place.d), math.hypot(place.b, place.e)


def areas_m2(shapes: NDArray[np.object_], info: RasterInfo) -> Floats:
    """Return the area of polygons on the ground in square metres.

    Sides are straight in the CRS, as those of pixels are. Needs shapely.

    Args:
        shapes: P shapely polygons in pixels: x is the column, y the row.
        info: of the raster.

    Returns:
        P float64; NaN where the CRS has no ellipsoid or does not reach.
    """
    import shapely

    if len(shapes) == 0:
        return np.zeros(0)
    _, corners, (ring_offsets, polygon_offsets) = shapely.to_ragged_array(shapes)
    return areas_of_rings_m2(corners, ring_offsets, polygon_offsets, info)


def areas_of_rings_m2(
    corners: Floats,
    ring_offsets: NDArray[np.integer],
    polygon_offsets: NDArray[np.integer],
    info: RasterInfo,
) -> Floats:
    """Return the area of polygons on the ground as `areas_m2` does.

    Args:
        corners: N×2 columns and rows of all rings, the first one of each repeated as its last.
        ring_offsets: where each ring begins in `corners`, and N.
        polygon_offsets: where each of P polygons begins among the rings, and their number. The
            first ring of a polygon is its outline, the others are holes in it.
        info: of the raster.

    Returns:
        P float64; NaN where the CRS has no ellipsoid or does not reach.
    """
    count = len(polygon_offsets) - 1
    ground, sides = of_raster(info), pixel_sides(info)
    if ground is None or sides is None:
        return np.full(count, np.nan)
    first = np.asarray(ring_offsets[:-1], np.int64)
    places, first = _with_short_sides(corners, first, _STRAIGHT / max(sides))
    areas = _ring_areas(ground, places, first)
    signed = -areas
    signed[polygon_offsets[:-1]] *= -1
    polygon_of_ring = np.repeat(np.arange(count), np.diff(polygon_offsets))
    # Of no ring at all, `bincount` would make integers.
    return np.bincount(polygon_of_ring, weights=signed, minlength=count).astype(np.float64)


def _with_short_sides(
    corners: Floats, first: NDArray[np.int64], longest: float
) -> tuple[Floats, NDArray[np.int64]]:
    """Cut the sides of rings into equal parts that are not longer than some pixels."""
    steps = np.diff(corners, axis=0, append=corners[-1:])
    steps[first[1:] - 1] = 0  # from the end of one ring to the next is no side
    parts = np.maximum(np.ceil(np.hypot(steps[:, 0], steps[:, 1]) / longest), 1).astype(np.int64)
    if parts.max(initial=1) == 1:
        return corners, first
    begins = np.cumsum(parts) - parts
    share = (np.arange(parts.sum()) - np.repeat(begins, parts)) / np.repeat(parts, parts)
    places = np.repeat(corners, parts, axis=0) + np.repeat(steps, parts, axis=0) * share[:, None]
    return places, begins[first]


class PixelAreas:
    """The areas of the pixels of a raster on the ground, a row at a time.

    Areas of single pixels are worked out as `areas_m2` does, at most `_STRAIGHT` apart, and taken
    to change evenly in between: right to 1e-7 (less so at the very edge of a projection). Memory
    holds two rows of them.
    """

    def __init__(self, info: RasterInfo) -> None:
        self._info, self._ground, sides = info, of_raster(info), pixel_sides(info)
        width, height = (np.nan, np.nan) if self._ground is None or sides is None else sides
        self.known: bool = bool(np.isfinite(width + height))
        """Whether the raster says where on an ellipsoid it lies."""
        if not self.known:
            return
        self._parts = max(1, math.ceil(max(width, height) / _STRAIGHT))
        self._columns = _nodes(info.columns, width)
        self._rows = _nodes(info.rows, height)
        self._kept: dict[int, Floats] = {}
        middle = (self._rows[0], self._rows[len(self._rows) // 2], self._rows[-1])
        if all(_is_even(self._exact(self._columns, int(row))) for row in middle):
            self._columns = self._columns[:1]  # parallels are rows: longitude makes no difference
        self._lengths = np.diff(self._columns, append=info.columns)
        self._beyond_W = np.arange(info.columns) - np.repeat(self._columns, self._lengths)

    def of_counts(self, first_row: int, pixels_RK: NDArray[np.int64]) -> Floats | None:
        """Add up the areas of pixels of rows of which all have the same.

        Args:
            first_row: number of the first of the R rows.
            pixels_RK: how many pixels of each row have each code.

        Returns:
            R×K square metres as `sums` returns them; None where the pixels of a row differ.
        """
        if not self.known:
            return np.full(pixels_RK.shape, np.nan)
        if len(self._columns) > 1:
            return None
        rows = range(first_row, first_row + len(pixels_RK))
        areas_R1 = np.array([self._row_of_nodes(row) for row in rows])
        return pixels_RK * areas_R1 if np.isfinite(areas_R1).all() else None

    def sums(
        self,
        number: int,
        wanted_W: NDArray[np.bool_],
        codes_W: NDArray[np.intp],
        pixels_K: NDArray[np.int64],
    ) -> Floats:
        """Add up the areas of the pixels of a row that have the same code.

        Args:
            number: of the row.
            wanted_W: pixels whose area matters; others may be NaN where a projection ends.
            codes_W: 0…K-1.
            pixels_K: how many pixels have each code.

        Returns:
            K square metres; NaN where the raster does not say where it lies, or beyond its
            projection.
        """
        if not self.known:
            return np.full(len(pixels_K), np.nan)
        nodes = self._row_of_nodes(number)
        if len(nodes) == 1 and np.isfinite(nodes[0]):
            return np.asarray(pixels_K * nodes[0])
        areas_W = self._row(number, nodes, wanted_W)
        return np.bincount(codes_W, areas_W, minlength=len(pixels_K)).astype(np.float64)

    def row(self, number: int, wanted_W: NDArray[np.bool_]) -> Floats:
        """Return the areas of the pixels of a row in square metres.

        Args:
            number: of the row.
            wanted_W: pixels whose area matters; others may be NaN where a projection ends.

        Returns:
            W float64; NaN where the raster does not say where it lies, or beyond its projection.
        """
        if not self.known:
            return np.full(self._info.columns, np.nan)
        return self._row(number, self._row_of_nodes(number), wanted_W)

    def _row(self, number: int, nodes: Floats, wanted_W: NDArray[np.bool_]) -> Floats:
        # Node by node: the area at it, and how much it changes with each column after it.
        change = np.append(np.diff(nodes) / np.diff(self._columns), 0.0)
        areas_W: Floats = np.repeat(change, self._lengths)
        areas_W *= self._beyond_W
        areas_W += np.repeat(nodes, self._lengths)
        if np.isnan(nodes).any():
            unknown = np.flatnonzero(np.isnan(areas_W) & wanted_W)
            areas_W[unknown] = self._exact(unknown, number)
        return areas_W

    def _row_of_nodes(self, number: int) -> Floats:
        """Return the areas at the columns of nodes of any row."""
        after = int(np.searchsorted(self._rows, number))
        areas = self._at(int(self._rows[after]))
        if self._rows[after] != number:
            above = int(self._rows[after - 1])
            share = (number - above) / (int(self._rows[after]) - above)
            areas = (1 - share) * self._at(above) + share * areas
        return areas

    def _at(self, row: int) -> Floats:
        """Return the exact areas at the nodes of a row of nodes; two rows are kept."""
        if row not in self._kept:
            while len(self._kept) > 1:
                del self._kept[min(self._kept)]
            self._kept[row] = self._exact(self._columns, row)
        return self._kept[row]

    def _exact(self, columns: NDArray[np.intp], row: int) -> Floats:
        assert self._ground is not None
        sides = np.arange(self._parts) / self._parts
        flat = np.zeros(self._parts)
        x = np.concatenate([sides, flat + 1, 1 - sides, flat, [0.0]])
        y = np.concatenate([flat, sides, flat + 1, 1 - sides, [0.0]])
        corners = len(x)
        at_once = max(1, _POINTS_AT_ONCE // corners)
        found = []
        for start in range(0, len(columns), at_once):
            some = columns[start : start + at_once]
            places = np.stack(
                [(some[:, None] + x).reshape(-1), np.tile(row + y, len(some))], axis=1
            )
            found.append(_ring_areas(self._ground, places, np.arange(len(some)) * corners))
        areas: Floats = np.concatenate([np.zeros(0), *found])
        return areas


def _nodes(length: int, side: float) -> NDArray[np.intp]:
    """Return the first pixel of an axis, the last, and pixels at most `_STRAIGHT` metres apart."""
    step = max(1, int(_STRAIGHT / side))
    return np.unique(np.append(np.arange(0, length, step), length - 1))


def _is_even(areas: Floats) -> bool:
    return bool(np.isfinite(areas).all() and np.ptp(areas) <= _EVEN * areas.mean())


def _ring_areas(ground: Ground, places: Floats, first_places: NDArray[np.intp]) -> Floats:
    """Integrate what lies between each ring and the parallel through its first corner.

    Args:
        ground: where the pixels lie.
        places: columns and rows of the corners of all rings, each closed.
        first_places: of each ring.
    """
    if len(places) == 0:
        return np.zeros(0)
    is_side = np.ones(len(places), bool)
    is_side[first_places[1:] - 1] = is_side[-1] = False  # from a ring's end to the next is none
    longitude, latitude = _reached(ground, places)
    middle_longitude, middle_latitude = _reached(ground, (places + np.roll(places, -1, axis=0)) / 2)
    zone = _zone(ground.geod, latitude)
    lengths = np.diff(first_places, append=len(places))
    origin = np.repeat(zone[first_places], lengths)
    # Small numbers before they are multiplied: a pixel is 1e-15 of what lies below its parallel.
    height, middle_height = zone - origin, _zone(ground.geod, middle_latitude) - origin
    next_height = np.roll(height, -1)
    step = np.where(is_side, _turned(np.roll(longitude, -1) - longitude), 0)
    # A side that is straight on the map is bent here: two thirds of the bow beside its chord.
    bow = (middle_height - (height + next_height) / 2) * step
    bow -= (_turned(middle_longitude - longitude) - step / 2) * (next_height - height)
    sides = np.where(is_side, (height + next_height) / 2 * step + bow * (2 / 3), 0)
    areas = np.add.reduceat(sides, first_places)
    # Around a pole the steps add up to a whole turn, and the area reaches from ring to pole.
    turns = np.round(np.add.reduceat(step, first_places) / (2 * np.pi))
    if turns.any():
        pole = _zone(ground.geod, np.sign(latitude[first_places]) * np.pi / 2)
        areas += 2 * np.pi * turns * (zone[first_places] - pole)
    found: Floats = np.abs(areas)
    return found


def _reached(ground: Ground, places: Floats) -> tuple[Floats, Floats]:
    """Return longitude and latitude of places; NaN where the CRS does not reach."""
    longitude, latitude = ground.radians(places[:, 0], places[:, 1])
    reached = np.isfinite(longitude) & (np.abs(latitude) < np.pi / 2 + 1e-9)
    return np.where(reached, longitude, np.nan), np.where(reached, latitude, np.nan)


def _turned(angle: Floats) -> Floats:
    """Return the shorter way: less than half a turn, across the antimeridian too."""
    return angle - 2 * np.pi * np.round(angle / (2 * np.pi))


def _zone(geod: Any, latitude: Floats) -> Floats:
    """Return the area between the equator and a parallel of an ellipsoid, a radian of longitude."""
    sine, eccentricity = np.sin(latitude), np.sqrt(geod.es)
    if eccentricity == 0:
        return np.asarray(geod.b**2 * sine)
    return np.asarray(
        geod.b**2
        / 2
        * (sine / (1 - geod.es * sine**2) + np.arctanh(eccentricity * sine) / eccentricity)
    )


def to_longitude_latitude(crs: Any) -> Callable[[Floats], Floats] | None:
    """Return what turns N×2 coordinates into longitude and latitude on WGS 84, in degrees.

    None where the CRS has no place on the Earth. Coordinates that it does not reach become
    infinite.

    Args:
        crs: rasterio CRS.
    """
    import pyproj

    try:
        transformer = pyproj.Transformer.from_crs(
            pyproj.CRS.from_wkt(crs.to_wkt()), "OGC:CRS84", always_xy=True
        )
    except pyproj.exceptions.ProjError:
        return None

    def transformed(places: Floats) -> Floats:
        return np.stack(transformer.transform(places[:, 0], places[:, 1]), axis=1)

    return transformed
