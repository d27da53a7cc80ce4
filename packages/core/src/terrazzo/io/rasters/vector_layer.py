"""One layer of shapes as a file holds it, and the errors that all kinds of files share."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.io.rasters.handles import ENVIRONMENT

_CRS84 = ("urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84", "OGC:CRS84")
"""EPSG:4326 with the longitude first, which is how coordinates are given here anyhow."""
_FARTHEST = 1e15
"""No place has a larger coordinate, in no unit."""
NO_CRS = (
    'ENGCRS["Undefined Cartesian SRS with unknown unit",EDATUM["Unknown engineering datum"],'
    'CS[Cartesian,2],AXIS["x",unspecified],AXIS["y",unspecified],LENGTHUNIT["unknown",1]]'
)
"""What GeoPackage calls the coordinates of a raster without a CRS."""


@dataclass(frozen=True, slots=True)
class Layer:
    """All shapes of a file; the geometry is None where a shape has none."""

    geometries: list[Any]
    values: list[Any]
    crs: Any


def is_null(value: Any) -> bool:
    """Tell whether an attribute has no value; a column of integers holds NaN there."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_empty(geometry: Any) -> bool:
    """Tell whether a geometry is missing, or has no point."""
    if geometry is None:
        return True
    if geometry.get("type") == "GeometryCollection":
        return all(map(is_empty, geometry.get("geometries") or []))
    return not any(_numbers_in(geometry.get("coordinates") or []))


def faulty_coordinate(geometry: Any) -> str | None:
    """Return the first coordinate that is no number of a place, as text; None: all are.

    GDAL crashes, or draws something else, where GeoJSON holds such.
    """
    if geometry.get("type") == "GeometryCollection":
        found = map(faulty_coordinate, geometry.get("geometries") or [])
        return next((text for text in found if text is not None), None)
    return _faulty_in(geometry.get("coordinates"))


def _faulty_in(coordinates: Any) -> str | None:
    if not isinstance(coordinates, list | tuple):
        return repr(coordinates)
    if _are_points(coordinates):
        return None
    deeper = [each for each in coordinates if isinstance(each, list | tuple)]
    if deeper and len(deeper) == len(coordinates):
        return next((text for text in map(_faulty_in, coordinates) if text is not None), None)
    for each in coordinates:
        is_number = isinstance(each, int | float) and not isinstance(each, bool)
        if not is_number or not -_FARTHEST <= each <= _FARTHEST:
            return repr(each)
    return None if len(coordinates) > 1 else repr(coordinates)


def _are_points(coordinates: Any) -> bool:
    """Tell of a ring or line, ten times as fast as number by number, that nothing is wrong."""
    try:
        points = np.array(coordinates)
    except ValueError:  # of several lengths
        return False
    if points.ndim != 2 or points.shape[1] < 2 or points.dtype.kind not in "if":
        return False
    return bool((np.abs(points) <= _FARTHEST).all())


def _numbers_in(coordinates: Iterable[Any]) -> Iterable[bool]:
    """Yield True for each number in nested lists."""
    for item in coordinates:
        if isinstance(item, list | tuple):
            yield from _numbers_in(item)
        else:
            yield True


def named_crs(name: str) -> Any:
    """Return a CRS by its name or its text."""
    with rasterio.Env(**ENVIRONMENT):
        return CRS.from_epsg(4326) if name in _CRS84 else CRS.from_user_input(name)


def import_vector_package(name: str) -> Any:
    """Import pyogrio or shapely.

    Raises:
        ConfigError: SEG-X003 it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            "SEG-X003",
            "GeoPackage, Shapefile, FlatGeobuf and burn_width need two more packages",
            observed=f"no module {name!r}",
            allowed="polygons as GeoJSON without them",
            next_step='pip install "terrazzo[vector]"',
        ) from None


class NoLayerError(ConfigError):
    """A layer of a file of shapes is not named, or not there."""


def no_layer(path: Path, layer: str | None, layers: list[str]) -> NoLayerError:
    """Compose the error for a layer that is not named, or not there."""
    return NoLayerError(
        "SEG-X011",
        "which layer of the file?",
        file=path,
        observed=layer or "none named",
        allowed=", ".join(layers),
        next_step="name one of them as `layer` of the scene",
    )


def no_attribute(path: Path, attribute: str, known: list[str], where: str = "") -> DataError:
    """Compose the error for an attribute that is not there."""
    told = ", ".join(known) or "none"
    return wrong(path, f"no attribute {attribute!r}{where}; those of the file: {told}")


def wrong(path: Path, observed: str) -> DataError:
    """Compose the error for content that is not what is wanted."""
    return DataError(
        "SEG-D012",
        "the file does not hold shapes of the form that is wanted",
        file=path,
        observed=observed,
        allowed="polygons as GeoJSON (a FeatureCollection), GeoPackage, Shapefile or FlatGeobuf, "
        "each with the attribute that is asked for",
        next_step="export the shapes again",
    )
