"""GeoJSON, read by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terrazzo.io.rasters.grids import GDAL_ERRORS
from terrazzo.io.rasters.handles import unreadable
from terrazzo.io.rasters.vector_layer import (
    Layer,
    is_empty,
    named_crs,
    no_attribute,
    no_layer,
    wrong,
)


def read_geojson(path: Path, attribute: str | None, layer: str | None) -> Layer:
    """Read the shapes of a GeoJSON file.

    Raises:
        ConfigError: SEG-X011 a layer is named.
        DataError: SEG-D012 another kind of content, or an attribute that is missing; SEG-D013
            unreadable.
    """
    if layer is not None:
        raise no_layer(path, layer, ["(GeoJSON has one, without a name)"])
    document = _geojson(path)
    try:
        # A CRS of null is one that is not named; so are properties of null: there are none.
        named = ((document.get("crs") or {}).get("properties") or {}).get("name")
        geometries = [feature["geometry"] for feature in document["features"]]
        properties = [feature.get("properties") or {} for feature in document["features"]]
        crs = None if named is None else named_crs(named)
    except KeyError as error:
        raise wrong(path, f"no member {error} in a feature or the collection") from None
    except (ValueError, TypeError, AttributeError, *GDAL_ERRORS) as error:
        raise wrong(path, f"{type(error).__name__}: {error}") from None
    if attribute is not None:
        _require_attribute(path, attribute, properties, geometries)
    values = [each.get(attribute) if attribute else None for each in properties]
    return Layer(geometries, values, crs)


def _geojson(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows tools write a BOM
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise wrong(path, f"{type(error).__name__}: {error}") from None
    if not isinstance(document, dict):
        raise wrong(path, f"a {type(document).__name__} where a FeatureCollection is wanted")
    return document


def _require_attribute(
    path: Path, attribute: str, properties: Sequence[dict[str, Any]], geometries: Sequence[Any]
) -> None:
    for number, (each, geometry) in enumerate(zip(properties, geometries, strict=True)):
        if attribute not in each and not is_empty(geometry):
            known = dict.fromkeys(name for some in properties for name in some)
            raise no_attribute(path, attribute, list(known), f" in shape {number}")


def geojson_columns(path: Path) -> dict[str, list[Any]]:
    """Return the values of each attribute.

    Raises:
        DataError: as `read_geojson`.
    """
    columns: dict[str, list[Any]] = {}
    try:
        for feature in _geojson(path)["features"]:
            for name, value in (feature.get("properties") or {}).items():
                columns.setdefault(name, []).append(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise wrong(path, f"{type(error).__name__}: {error}") from None
    return columns
