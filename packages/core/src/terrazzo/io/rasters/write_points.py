"""Points with attributes as a GeoPackage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import replacing
from terrazzo.base.disk_errors import not_written
from terrazzo.base.errors import TerrazzoError
from terrazzo.io.rasters.vector_layer import NO_CRS, import_vector_package


def write_points(
    path: Path,
    x_N: NDArray[np.float64],
    y_N: NDArray[np.float64],
    crs: Any,
    fields: Mapping[str, NDArray[Any]],
    layer: str,
) -> None:
    """Write points as a GeoPackage; complete or not at all.

    Args:
        path: where to, ending in ``.gpkg``.
        x_N: coordinates in units of the CRS.
        y_N: likewise.
        crs: rasterio CRS, or None.
        fields: N numbers or texts each, by name; None in an array of objects is an empty text.
        layer: name of the layer.

    Raises:
        ConfigError: SEG-X003, pyogrio or shapely is not installed.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    shapely, pyogrio = import_vector_package("shapely"), import_vector_package("pyogrio")
    raw = import_vector_package("pyogrio.raw")
    with replacing(path) as temporary:
        try:
            raw.write(
                str(temporary),
                geometry=shapely.to_wkb(shapely.points(x_N, y_N)),
                field_data=list(fields.values()),
                fields=list(fields),
                geometry_type="Point",
                crs=NO_CRS if crs is None else crs.to_wkt(),
                driver="GPKG",
                layer=layer,
            )
            if pyogrio.read_info(temporary, layer=layer)["features"] != len(x_N):
                msg = "not all points could be read back"
                raise OSError(msg)  # noqa: TRY301 - told as what the disk did
        except (RuntimeError, OSError) as error:
            if isinstance(error, TerrazzoError):
                raise
            raise not_written(path, error, problem="the points could not be written") from error
