"""Areas of equal pixels as polygons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import features


def areas_of_equal_pixels(
    labels_RW: NDArray[np.integer], first_row: int, nodata: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield areas of pixels of one value that share sides: GeoJSON polygon and value.

    Args:
        labels_RW: uint8 or uint16.
        first_row: number of its first row.
        nodata: value of pixels that belong to no area.

    Returns:
        Polygons whose x is the column and whose y is the row, in whole numbers.
    """
    place = rasterio.Affine.translation(0, first_row)
    for polygon, value in features.shapes(labels_RW, labels_RW != nodata, 4, place):
        yield polygon, int(value)
