"""What a GeoTIFF says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp

from terrazzo.rasters.handles import handle


@dataclass(frozen=True, slots=True)
class RasterInfo:
    """What a GeoTIFF says of itself.

    Attributes:
        rows: height in pixels.
        columns: width in pixels.
        band_names: C names; ``band 1`` … where the file gives none. An alpha band is none of them.
        dtype: NumPy dtype name of all bands.
        nodata: value of pixels without data, or None.
        crs: rasterio CRS, or None.
        transform: affine.Affine from (column, row) to coordinates.
    """

    rows: int
    columns: int
    band_names: tuple[str, ...]
    dtype: str
    nodata: float | None
    crs: Any
    transform: Any

    @property
    def bands(self) -> int:
        """C."""
        return len(self.band_names)

    @property
    def has_place(self) -> bool:
        """Whether the file says where on the ground it lies."""
        return not self.transform.is_identity

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in the units of the CRS, also where the raster is turned."""
        t = self.transform
        return math.hypot(t.b, t.e), math.hypot(t.a, t.d)


def info(path: Path) -> RasterInfo:
    """Read the header of a GeoTIFF.

    Raises:
        DataError: SEG-D011 damaged; SEG-D012 not TIFF; SEG-D013 missing, empty or unreadable;
            SEG-D030 a VRT or a remote path.
    """
    dataset = handle(path)
    names = tuple(dataset.descriptions[n - 1] or f"band {n}" for n in image_bands(dataset))
    return RasterInfo(
        dataset.height,
        dataset.width,
        names,
        dataset.dtypes[0],
        dataset.nodata,
        dataset.crs,
        dataset.transform,
    )


def image_bands(dataset: Any) -> tuple[int, ...]:
    """Return the numbers of the bands that are no alpha band, from 1.

    GDAL takes the fourth of four nameless 8-bit bands for alpha; a band with a name is a band.
    """
    return tuple(
        number
        for number, kind, name in zip(
            dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True
        )
        if kind is not ColorInterp.alpha or name
    )
