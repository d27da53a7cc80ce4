"""Polygons burnt onto the grid of a raster."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import features
from rasterio.crs import CRS

from terrazzo.errors import DataError
from terrazzo.rasters.grids import crs_text, same_crs
from terrazzo.rasters.handles import ENVIRONMENT, unreadable
from terrazzo.rasters.header import RasterInfo
from terrazzo.rasters.reading import BYTE_LIMIT


def rasterise(
    path: Path,
    onto: RasterInfo,
    *,
    value: int,
    value_property: str | None = None,
    background: int,
) -> NDArray[np.uint8]:
    """Burn the polygons of a GeoJSON file onto a grid: a pixel is inside if its centre is.

    Args:
        path: GeoJSON; its ``crs`` member is compared with the grid, and without one its coordinates
            are taken to be the grid's.
        onto: the grid.
        value: what pixels inside become.
        value_property: property of each feature that says it instead.
        background: what all other pixels become.

    Returns:
        H×W uint8. Later features cover earlier ones.

    Raises:
        DataError: SEG-D013 unreadable; SEG-D012 not GeoJSON, or a property is missing; SEG-D025 its
            CRS differs from the grid's; SEG-D031 a grid of more than `BYTE_LIMIT` pixels.
    """
    if onto.rows * onto.columns > BYTE_LIMIT:
        raise DataError(
            "SEG-D031",
            "the scene is too large for polygons to be drawn at once",
            file=path,
            observed=f"{onto.rows}×{onto.columns} px",
            allowed=f"{BYTE_LIMIT} px",
            next_step="rasterise the polygons with gdal_rasterize and name that raster",
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        named = document.get("crs", {}).get("properties", {}).get("name")
        shapes = [
            (
                feature["geometry"],
                int(feature["properties"][value_property]) if value_property else value,
            )
            for feature in document["features"]
            if feature["geometry"] is not None
        ]
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "SEG-D012",
            "the file holds no GeoJSON features of the form that is wanted",
            file=path,
            observed=f"{type(error).__name__}: {error}",
            allowed="a FeatureCollection"
            + (f" whose features have the whole number {value_property!r}" * bool(value_property)),
            next_step="export the polygons again",
        ) from None
    if named is not None and not same_crs(CRS.from_user_input(named), onto.crs):
        raise DataError(
            "SEG-D025",
            "the polygons are in another CRS than the image",
            file=path,
            observed=named,
            allowed=crs_text(onto.crs),
            next_step="reproject the polygons, e.g. `ogr2ogr -t_srs EPSG:… out.geojson in.geojson`",
        )
    label_HW = np.full((onto.rows, onto.columns), background, np.uint8)
    if shapes:
        with rasterio.Env(**ENVIRONMENT):
            features.rasterize(shapes, out=label_HW, transform=onto.transform)
    return label_HW
