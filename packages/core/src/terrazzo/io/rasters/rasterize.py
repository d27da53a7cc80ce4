"""Shapes burnt onto the grid of a raster: a pixel is inside if its centre is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import features

from terrazzo.base.errors import DataError
from terrazzo.io.rasters.handles import ENVIRONMENT
from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.rasters.read_images import BYTE_LIMIT
from terrazzo.io.rasters.read_vectors import Features

_LARGEST = int(np.iinfo(np.uint16).max)


def rasterize_shapes(
    shapes: Features,
    onto: RasterInfo,
    *,
    value: int | None,
    values: Mapping[str, int] | None = None,
    background: int,
) -> NDArray[Any]:
    """Burn shapes onto a grid; later ones cover earlier ones.

    Args:
        shapes: in the coordinates of the grid.
        onto: the grid.
        value: what pixels inside become. None: the attribute of each shape.
        values: what each value of the attribute becomes; nothing here: itself, a whole number.
        background: what all other pixels become.

    Returns:
        H×W uint8, or uint16 where a value needs it.

    Raises:
        DataError: SEG-D012 an attribute that is no such number, or not in `values`; SEG-D031 a grid
            of more than `BYTE_LIMIT` pixels.
    """
    burnt = [
        value if value is not None else _number(shapes, at, values)
        for at in range(len(shapes.geometries))
    ]
    dtype = np.uint8 if max([*burnt, background]) < 256 else np.uint16
    return _burn(shapes, burnt, np.dtype(dtype), background, onto)


def inside(shapes: Features, onto: RasterInfo) -> NDArray[np.bool_]:
    """Return H×W bool, True where a pixel is inside any shape.

    Raises:
        DataError: SEG-D031 as `rasterise`.
    """
    ones = [1] * len(shapes.geometries)
    return _burn(shapes, ones, np.dtype(np.uint8), 0, onto).view(np.bool_)


def _burn(
    shapes: Features, values: list[int], dtype: np.dtype[Any], background: int, onto: RasterInfo
) -> NDArray[Any]:
    if onto.rows * onto.columns > BYTE_LIMIT:
        raise DataError(
            "SEG-D031",
            "the scene is too large for shapes to be drawn at once",
            file=shapes.path,
            observed=f"{onto.rows}×{onto.columns} px",
            allowed=f"{BYTE_LIMIT} px",
            next_step="rasterise the shapes with gdal_rasterize and name that raster",
        )
    burnt_HW = np.full((onto.rows, onto.columns), background, dtype)
    if values:
        with rasterio.Env(**ENVIRONMENT):
            features.rasterize(
                zip(shapes.geometries, values, strict=True), out=burnt_HW, transform=onto.transform
            )
    return burnt_HW


def _number(shapes: Features, at: int, values: Mapping[str, int] | None) -> int:
    told = shapes.values[at]
    if values:
        number = values.get(str(told))
        allowed = ", ".join(values)
    else:
        number = int(told) if isinstance(told, int | float) and told == int(told) else None
        allowed = f"whole numbers from 0 to {_LARGEST}"
    if number is None or not 0 <= number <= _LARGEST:
        raise DataError(
            "SEG-D012",
            "an attribute says no class",
            file=shapes.path,
            observed=f"{told!r} of shape {at}",
            allowed=allowed,
            next_step="name every value in data.options.burn_values, or correct the attribute",
        )
    return number
