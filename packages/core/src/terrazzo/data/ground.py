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

    ground, sides = of_raster(info), pixel_sides(info)
    if ground is None or sides is None:
        return np.full(len(shapes), np.nan)
    rings, polygon_of_ring = shapely.get_rings(
        shapely.segmentize(shapes, _STRAIGHT / max(sides)), return_index=True
    )
    places, ring_of_place = shapely.get_coordinates(rings, return_index=True)
    first_places = np.flatnonzero(np.diff(ring_of_place, prepend=-1))
    area_of_ring = _ring_areas(ground, places, first_places)
    # The first ring of a polygon is its outline, the others are holes in it.
    is_hole = np.diff(polygon_of_ring, prepend=-1) == 0
    signed = np.where(is_hole, -area_of_ring, area_of_ring)
    # Of no ring at all, `bincount` would make integers.
    return np.bincount(polygon_of_ring, weights=signed, minlength=len(shapes)).astype(np.float64)


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
