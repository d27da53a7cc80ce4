"""What a GeoTIFF says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])

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
            Palette indices are read as red, green and blue.
        dtype: NumPy dtype name that images are read as; other numbers than `IMAGE_DTYPES` become
            float32.
        nodata: value of pixels without data, or None.
        crs: rasterio CRS, or None.
        transform: affine.Affine from (column, row) to coordinates.
        stored_dtype: NumPy dtype name of the pixels in the file.
        white_is_zero: whether the file calls 0 white (MinIsWhite): images are inverted, labels
            are not.
        scaling: scale and offset of each band, by which the file turns its numbers into a quantity;
            (1, 0) where it says nothing.
        alpha_bands: numbers, from 1, of bands that are read as alpha.
        physical_sides: width and height of a pixel in metres, as microscopes note them in files
            that do not lie on the ground; None: not noted.
        by_name_only: positions of bands that are read only where they are asked for by name.
    """

    rows: int
    columns: int
    band_names: tuple[str, ...]
    dtype: str
    nodata: float | None
    crs: Any
    transform: Any
    stored_dtype: str
    white_is_zero: bool = False
    scaling: tuple[tuple[float, float], ...] = ()
    alpha_bands: tuple[int, ...] = ()
    physical_sides: tuple[float, float] | None = None
    by_name_only: tuple[int, ...] = ()

    @property
    def bands(self) -> int:
        """C."""
        return len(self.band_names)

    @property
    def has_place(self) -> bool:
        """Whether the file says where on the ground it lies."""
        return not self.transform.is_identity

    def to_coordinates(self, columns: Number, rows: Number) -> tuple[Number, Number]:
        """Return x and y, in the units of the CRS, of points given in pixels.

        Args:
            columns: from the left edge; a number or an array.
            rows: from the upper edge; as many.
        """
        return _mapped(self.transform, columns, rows)

    def to_pixels(self, x: Number, y: Number) -> tuple[Number, Number]:
        """Return columns and rows, with their fractions, of points given in units of the CRS."""
        return _mapped(~self.transform, x, y)

    def strip(self, top: int, rows: int) -> RasterInfo:
        """Return the grid of some of its rows, from row `top` on."""
        t = self.transform
        x, y = self.to_coordinates(0, top)
        return replace(self, rows=rows, transform=type(t)(t.a, t.b, x, t.d, t.e, y))

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in the units of the CRS, also where the raster is turned."""
        t = self.transform
        return math.hypot(t.b, t.e), math.hypot(t.a, t.d)


def _mapped(t: Any, x: Number, y: Number) -> tuple[Number, Number]:
    # Written out: affine 2 maps a point with `*` alone, and affine 3 means to with `@` alone.
    return x * t.a + y * t.b + t.c, x * t.d + y * t.e + t.f
