"""Lines and points as the areas they stand for: a width about them.

It is in map units, as those of a plan; on a grid in degrees, where there are none, in metres on the
ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.io.rasters import local_buffer
from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.rasters.rasterize import attribute_text
from terrazzo.io.rasters.read_vectors import Features
from terrazzo.io.rasters.vector_layer import import_vector_package, wrong

_AREAS = ("Polygon", "MultiPolygon")


def widen_shapes(
    shapes: Features, onto: RasterInfo, *, width: float | Mapping[str, float] | None
) -> Features:
    """Replace lines and points by the areas within half a width of them; polygons stay.

    A line has round ends; a point becomes a disc of that diameter.

    Args:
        shapes: in the coordinates of the grid.
        onto: the grid, in whose units the width is; in metres where these are degrees.
        width: of lines and points; by value of the attribute where these differ; None: not told.

    Raises:
        ConfigError: SEG-X003 shapely is missing.
        DataError: SEG-D012 lines or points whose width is not told.
    """
    thin = [at for at, each in enumerate(shapes.geometries) if not _is_area(each)]
    if not thin:
        return shapes
    if width is None:
        raise _without_width(shapes, thin)
    geometries = list(shapes.geometries)
    shapely = import_vector_package("shapely")
    for at in thin:
        radius = _width_of(shapes, at, width) / 2
        # As a collection may hold polygons too, its parts are widened one by one.
        parts = [shapely.geometry.shape(part) for part in _parts(geometries[at])]
        try:
            wide = [
                part if part.geom_type in _AREAS else _wide(part, radius, onto) for part in parts
            ]
        except ValueError:
            raise wrong(
                shapes.path, f"shape {shapes.numbers[at]} has corners beyond 90 degrees of latitude"
            ) from None
        geometries[at] = shapely.geometry.mapping(shapely.union_all(wide))
    return replace(shapes, geometries=tuple(geometries))


def _wide(part: Any, radius: float, onto: RasterInfo) -> Any:
    if onto.crs is not None and onto.crs.is_geographic:
        return local_buffer.widened(part, radius, onto)
    return part.buffer(radius)


def has_lines(shapes: Features) -> bool:
    """Tell whether there are lines or points among shapes."""
    return not all(map(_is_area, shapes.geometries))


def refuse_lines(shapes: Features) -> None:
    """Refuse lines and points where areas are wanted.

    Raises:
        DataError: SEG-D012.
    """
    thin = [at for at, each in enumerate(shapes.geometries) if not _is_area(each)]
    if thin:
        raise DataError(
            "SEG-D012",
            "an area is given as polygons",
            file=shapes.path,
            observed=_kinds(shapes, thin),
            allowed=", ".join(_AREAS),
            next_step="export its outline as polygons",
        )


def _parts(geometry: Any) -> list[Any]:
    if geometry["type"] != "GeometryCollection":
        return [geometry]
    return [part for each in geometry["geometries"] for part in _parts(each)]


def _is_area(geometry: Any) -> bool:
    return all(part["type"] in _AREAS for part in _parts(geometry))


def _kinds(shapes: Features, thin: list[int]) -> str:
    kinds = dict.fromkeys(shapes.geometries[at]["type"] for at in thin)
    return (
        f"{len(thin)} of {len(shapes.geometries)} shapes are {', '.join(kinds)}; the first is "
        f"shape {shapes.numbers[thin[0]]} (counted from 0)"
    )


def _without_width(shapes: Features, thin: list[int]) -> DataError:
    return DataError(
        "SEG-D012",
        "lines and points have no area, and no width is given for them",
        file=shapes.path,
        observed=_kinds(shapes, thin),
        allowed="polygons; lines and points with a width in map units, or in metres on an image "
        "in degrees",
        next_step="set data.options.burn_width, e.g. burn_width = 6.0, or one for each value of "
        "burn_property: burn_width = { road = 6.0, path = 2.0 }",
    )


def _width_of(shapes: Features, at: int, width: float | Mapping[str, float]) -> float:
    if not isinstance(width, Mapping):
        return width
    told = attribute_text(shapes.values[at])
    if told not in width:
        raise ConfigError(
            "SEG-X011",
            "data.options.burn_width names no width for a value of the attribute",
            file=shapes.path,
            observed=f"{told!r} of shape {shapes.numbers[at]} (the first is 0)",
            allowed=", ".join(width),
            next_step="add it to burn_width",
        )
    return width[told]
