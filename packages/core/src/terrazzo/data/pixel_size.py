"""How large a pixel is on the ground: what a model was trained on, and what it is asked to see."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terrazzo.data.datasets import Split
    from terrazzo.io.rasters import RasterInfo

PixelSizes = tuple[float, float]
"""Smallest and largest side of a pixel, in metres."""

_METRES_PER_DEGREE = 111_320.0  # of latitude
_MOST_FILES = 64  # whose headers are read: enough to know a data set
_TIFF = (".tif", ".tiff")


def metres_per_unit(crs: Any) -> float:
    """Return how long one unit of a CRS is; NaN where there is none or it counts degrees."""
    if crs is None or not crs.is_projected:
        return math.nan
    return float(crs.linear_units_factor[1])


def pixel_metres(info: RasterInfo) -> float | None:
    """Return the side of a square as large as a pixel in the middle of a raster, in metres.

    None where the file does not say where it lies. Projections are taken at their word.
    """
    if info.crs is None or not info.has_place:
        return None
    t = info.transform
    if info.crs.is_projected:
        return math.sqrt(abs(t.a * t.e - t.b * t.d)) * metres_per_unit(info.crs)
    if not info.crs.is_geographic:
        return None
    _, latitude = info.to_coordinates(info.columns / 2, info.rows / 2)
    east = _METRES_PER_DEGREE * math.cos(math.radians(latitude))
    return math.sqrt(abs(t.a * t.e - t.b * t.d) * abs(east) * _METRES_PER_DEGREE)


def pixel_sizes(split: Split) -> PixelSizes | None:
    """Return the pixel sizes in a data set's GeoTIFF images; None if none says where it lies."""
    files = {split.source.files(index)[0]: None for index in range(len(split))}
    found = [path for path in files if path.suffix.lower() in _TIFF]
    if not found:
        return None
    from terrazzo.io import rasters  # GDAL only where there are GeoTIFF files

    step = -(-len(found) // _MOST_FILES)
    sizes = [pixel_metres(rasters.info(path)) for path in found[::step]]
    known = [size for size in sizes if size is not None]
    return (min(known), max(known)) if known else None
