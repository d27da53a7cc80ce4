"""Rows of classes as polygons in a GeoPackage, a strip of rows at a time.

`rasters.outlines_of` follows the outlines; here they get their place, their area on the ground and
the name of their class.

Needs the extra ``terrazzo[vector]``: shapely holds polygons, pyogrio makes the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.disk_errors import not_written, writing
from terrazzo.base.errors import ConfigError, ResourceError, TerrazzoError
from terrazzo.data import ground
from terrazzo.data.labels import LabelMap
from terrazzo.inference import qgis_styles
from terrazzo.io import geopackage, rasters
from terrazzo.io.rasters import RasterInfo

SUFFIX = ".gpkg"
"""GeoPackage: features can be added to it, it holds any CRS, and every GIS reads it."""

LAYER = "classes"
"""Its one layer, where there is none for each class."""

_FIELDS = {"class_id": np.int32, "class_name": object, "pixels": np.int64, "area_m2": np.float64}


def require_extra(path: Path) -> None:
    """Refuse before any work what `write` could not do at its end.

    Raises:
        ConfigError: SEG-X003, the extra is not installed; SEG-X032, another suffix.
    """
    if path.suffix.lower() != SUFFIX:
        raise ConfigError(
            "SEG-X032",
            "--polygons names no GeoPackage",
            observed=path,
            allowed=f"a name that ends in {SUFFIX}",
        )
    _libraries()


def write(
    path: Path,
    groups: Iterable[NDArray[np.integer]],
    size: RasterInfo,
    label_map: LabelMap,
    *,
    layer_per_class: bool = False,
) -> None:
    """Write one feature for each connected area of a class; pixels that share a side connect.

    Features have ``class_id``, ``class_name``, ``pixels`` and ``area_m2`` on the ground, which is
    NaN where the CRS has no ellipsoid. They are ordered by their lowest row, then by the first
    column they have there. The file holds the style by which QGIS shows them.

    Args:
        path: where to, ending in `SUFFIX`.
        groups: labels R×W from the first row of the scene to the last.
        size: CRS and transform.
        label_map: classes; its ignore value becomes no polygon.
        layer_per_class: write a layer for each class, called as `layer_names` says, also for one
            without an area; otherwise one layer `LAYER`.

    Raises:
        ConfigError: as `require_extra`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    _libraries()
    layers = layer_names(label_map) if layer_per_class else (LAYER,)
    crs = rasters.NO_CRS if size.crs is None else size.crs.to_wkt()
    counts = dict.fromkeys(layers, 0)
    with writing(path), _gdal_writes(path):
        file = geopackage.PolygonFile(path, layers, _FIELDS, crs)
    try:
        for found in _areas(groups, size, label_map):
            for layer, some in _by_layer(found, layers):
                counts[layer] += len(some.ids)
                with _gdal_writes(path):
                    _add(file, layer, some)
        with _gdal_writes(path):
            file.complete()
            _add_styles(path, layers, label_map)
            _refuse_unlike(path, counts)
    finally:
        file.abandon()


def layer_names(label_map: LabelMap) -> tuple[str, ...]:
    """Return what the layers of classes are called: id and name, so that no two are the same."""
    return tuple(f"{k} {name}" for k, name in enumerate(label_map.names))


def _add_styles(path: Path, layers: Sequence[str], label_map: LabelMap) -> None:
    with closing(sqlite3.connect(path)) as database:
        qgis_styles.add_to_geopackage(database, layers, "geom", "class_name", label_map)


def _by_layer(found: _Areas, layers: tuple[str, ...]) -> Iterator[tuple[str, _Areas]]:
    if layers == (LAYER,):
        yield LAYER, found
        return
    for k in np.unique(found.ids):
        yield layers[k], found.only(found.ids == k)


def _add(file: geopackage.PolygonFile, layer: str, found: _Areas) -> None:
    import shapely

    columns = (found.ids, found.names, found.pixels, found.areas_m2)
    file.add(layer, shapely.to_wkb(found.placed), shapely.bounds(found.placed), columns)


def geojson(
    labels_HW: NDArray[np.integer], size: RasterInfo, label_map: LabelMap
) -> dict[str, Any]:
    """Return the features of `write` as a GeoJSON FeatureCollection (RFC 7946).

    Coordinates are longitude and latitude on WGS 84, as the standard wants them. Where the image
    has no CRS they are those of its transform, or pixels (column and row) where it has none, and
    ``coordinates`` says so beside the features.

    Args:
        labels_HW: the map.
        size: CRS and transform.
        label_map: classes; its ignore value becomes no polygon.

    Raises:
        ConfigError: SEG-X003, the extra is not installed.
    """
    shapely, _ = _libraries()
    to_degrees = None if size.crs is None else ground.to_longitude_latitude(size.crs)
    features = []
    for found in _areas([labels_HW], size, label_map):
        shapes = found.placed
        if to_degrees is not None:
            shapes = shapely.transform(shapes, to_degrees)
        columns = (shapes, found.ids, found.names, found.pixels, found.areas_m2)
        for shape, k, name, pixels, area in zip(*columns, strict=True):
            properties = {"class_id": int(k), "class_name": str(name), "pixels": int(pixels)}
            properties["area_m2"] = float(area) if np.isfinite(area) else None
            geometry = shapely.geometry.mapping(shapely.geometry.polygon.orient(shape))
            features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    answer: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if to_degrees is None:
        what = "units of the transform, no CRS" if size.has_place else "pixels: column, row"
        answer["coordinates"] = what
    return answer


@dataclass(frozen=True, slots=True)
class _Areas:
    """N polygons with what is told of each."""

    ids: NDArray[np.integer]
    names: NDArray[Any]
    pixels: NDArray[np.int64]
    areas_m2: NDArray[np.float64]
    placed: NDArray[Any]

    def only(self, kept: NDArray[np.bool_]) -> _Areas:
        """Return some of them."""
        return _Areas(
            self.ids[kept],
            self.names[kept],
            self.pixels[kept],
            self.areas_m2[kept],
            self.placed[kept],
        )


def _areas(
    groups: Iterable[NDArray[np.integer]], size: RasterInfo, label_map: LabelMap
) -> Iterator[_Areas]:
    """Yield the polygons that no further row touches, strip by strip."""
    import shapely

    t = size.transform
    matrix = (t.a, t.b, t.d, t.e, t.c, t.f)
    names = np.array(label_map.names, dtype=object)
    for found in rasters.outlines_of(groups, size.rows, label_map.ignore_index):
        offsets = (found.ring_offsets, found.polygon_offsets)
        placed = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, _place(found.corners, matrix), offsets
        )
        areas_m2 = ground.areas_of_rings_m2(found.corners, *offsets, size)
        yield _Areas(found.label, names[found.label], found.pixels, areas_m2, placed)


@contextmanager
def _gdal_writes(path: Path) -> Iterator[None]:
    """Turn what GDAL and SQLite say while polygons are written into an error about their file."""
    try:
        yield
    except (RuntimeError, OSError, sqlite3.Error) as error:
        if isinstance(error, TerrazzoError):
            raise
        raise not_written(
            path,
            error,
            problem="the polygons could not be written",
            then="then run the same command again (--resume goes on with a scene)",
        ) from error


def _refuse_unlike(path: Path, counts: Mapping[str, int]) -> None:
    """A disk does not report every failed write when a file is closed, so look."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        faults = [text for (text,) in database.execute("PRAGMA quick_check")]
        found = geopackage.feature_counts(database, counts)
    if faults != ["ok"] or found != counts:
        raise ResourceError(
            "SEG-R004",
            "the polygons could not be read back as they were written",
            file=path,
            observed=f"{sum(found.values())} polygons; {faults[0]}",
            allowed=f"{sum(counts.values())} polygons",
            next_step="check the disk, then run the same command again",
        )


def _place(xy: NDArray[np.float64], matrix: tuple[float, ...]) -> NDArray[np.float64]:
    a, b, d, e, c, f = matrix
    x, y = xy[:, 0], xy[:, 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _libraries() -> tuple[Any, Any]:
    try:
        import pyogrio
        import pyogrio.raw
        import shapely
    except ImportError as error:
        raise ConfigError(
            "SEG-X003",
            "--polygons needs shapely and pyogrio, which are not installed",
            observed=error,
            next_step="pip install 'terrazzo[vector]'",
        ) from error
    return shapely, pyogrio
