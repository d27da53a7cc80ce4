"""What a GeoTIFF says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

IMAGE_DTYPES = ("uint8", "uint16", "float32")
"""What images are read as."""


@dataclass(frozen=True, slots=True)
class RasterInfo:
    """What a GeoTIFF says of itself.

    Attributes:
        rows: height in pixels.
        columns: width in pixels.
        band_names: C names; where the file gives none, ``red``, ``green`` and ``blue`` if it says
            which bands have these colours, else ``band 1`` … An alpha band is none of them.
        dtype: NumPy dtype name that images are read as; other numbers than `IMAGE_DTYPES` become
            float32.
        nodata: value of pixels without data, or None.
        crs: rasterio CRS, or None.
        transform: affine.Affine from (column, row) to coordinates.
        stored_dtype: NumPy dtype name of the pixels in the file.
        alpha_bands: numbers, from 1, of bands that are read as alpha.
    """

    rows: int
    columns: int
    band_names: tuple[str, ...]
    dtype: str
    nodata: float | None
    crs: Any
    transform: Any
    stored_dtype: str
    alpha_bands: tuple[int, ...] = ()

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
