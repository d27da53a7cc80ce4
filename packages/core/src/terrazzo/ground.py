"""How large a pixel is on the ground: what a model was trained on, and what it is asked to see."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terrazzo.errors import DataError

if TYPE_CHECKING:
    from terrazzo.datasets import Split
    from terrazzo.rasters import RasterInfo

PixelSizes = tuple[float, float]
"""Smallest and largest side of a pixel, in metres."""

TOLERANCE = 1.25
"""How many times larger or smaller pixels may be than those of training."""

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
    _, latitude = t @ (info.columns / 2, info.rows / 2)
    east = _METRES_PER_DEGREE * math.cos(math.radians(latitude))
    return math.sqrt(abs(t.a * t.e - t.b * t.d) * abs(east) * _METRES_PER_DEGREE)


def pixel_sizes(split: Split) -> PixelSizes | None:
    """Return the pixel sizes in a data set's GeoTIFF pictures; None if none says where it lies."""
    files = {split.source.files(index)[0]: None for index in range(len(split))}
    found = [path for path in files if path.suffix.lower() in _TIFF]
    if not found:
        return None
    from terrazzo import rasters  # GDAL only where there are GeoTIFF files

    step = -(-len(found) // _MOST_FILES)
    sizes = [pixel_metres(rasters.info(path)) for path in found[::step]]
    known = [size for size in sizes if size is not None]
    return (min(known), max(known)) if known else None


def require_like_training(path: Path, info: RasterInfo, trained: PixelSizes | None) -> None:
    """Refuse a scene whose pixels are larger or smaller than a model has seen.

    Raises:
        DataError: SEG-D028.
    """
    size = pixel_metres(info)
    if size is None or trained is None:
        return
    if not trained[0] / TOLERANCE <= size <= trained[1] * TOLERANCE:
        seen = " to ".join(f"{side:.4g}" for side in dict.fromkeys(trained))
        raise DataError(
            "SEG-D028",
            "the pixels of the scene are not of the size the model was trained on",
            file=path,
            observed=f"{size:.4g} m",
            allowed=f"{seen} m, up to {TOLERANCE} times more or less",
            next_step="resample the scene with `gdalwarp -tr`, or let it pass with "
            "--any-pixel-size",
        )
