"""Rows of classes as polygons in a GeoPackage, a band of rows at a time.

A polygon that reaches the lower edge of a band is kept open and joined with those of the next band
that touch it, so that the file holds whole polygons and memory only those that are open. Corners
are whole numbers of pixels until the end, so joining is exact.

Needs the extra ``terrazzo[vector]``: shapely joins, pyogrio writes.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
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
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo

SUFFIX = ".gpkg"
"""GeoPackage: features can be added to it, it holds any CRS, and every GIS reads it."""

_TABLE = "classes"

_NOWHERE = (
    'ENGCRS["Undefined Cartesian SRS with unknown unit",EDATUM["Unknown engineering datum"],'
    'CS[Cartesian,2],AXIS["x",unspecified],AXIS["y",unspecified],LENGTHUNIT["unknown",1]]'
)
"""What GeoPackage calls a scene without a CRS."""

Shapes = dict[int, list[Any]]
"""shapely polygons by class, in pixels: x is the column, y the row."""


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
    path: Path, groups: Iterable[NDArray[np.integer]], size: RasterInfo, label_map: LabelMap
) -> None:
    """Write one feature for each connected area of a class; pixels that share a side connect.

    Features have ``class_id``, ``class_name``, ``pixels`` and ``area_m2`` on the ground, which is
    NaN where the CRS has no ellipsoid. The file holds the style by which QGIS shows them.

    Args:
        path: where to, ending in `SUFFIX`.
        groups: labels R×W from the first row of the scene to the last.
        size: CRS and transform.
        label_map: classes; its ignore value becomes no polygon.

    Raises:
        ConfigError: as `require_extra`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    shapely, pyogrio = _libraries()
    with writing(path):
        path.unlink(missing_ok=True)
    features = 0
    for found in _areas(groups, size, label_map):
        features += len(found.ids)
        with _gdal_writes(path):
            pyogrio.raw.write(
                str(path),
                geometry=shapely.to_wkb(found.placed),
                field_data=[found.ids.astype(np.int32), found.names, found.pixels, found.areas_m2],
                fields=["class_id", "class_name", "pixels", "area_m2"],
                geometry_type="Polygon",
                crs=_NOWHERE if size.crs is None else size.crs.to_wkt(),
                driver="GPKG",
                layer=_TABLE,
                append=path.exists(),
            )
    with _gdal_writes(path):
        with closing(sqlite3.connect(path)) as database:
            qgis_styles.add_to_geopackage(database, _TABLE, "geom", "class_name", label_map)
        _refuse_unlike(path, features)


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


def _areas(
    groups: Iterable[NDArray[np.integer]], size: RasterInfo, label_map: LabelMap
) -> Iterator[_Areas]:
    """Yield the polygons that no further row touches, after each group of rows."""
    import shapely

    t = size.transform
    matrix = (t.a, t.b, t.d, t.e, t.c, t.f)
    for finished in _whole_shapes(groups, size.rows, label_map.ignore_index):
        ids = np.repeat(list(finished), [len(shapes) for shapes in finished.values()])
        shapes = np.array([s for shapes in finished.values() for s in shapes], dtype=object)
        pixels = np.round(shapely.area(shapes)).astype(np.int64)
        placed = shapely.transform(shapes, lambda xy: _place(xy, matrix))
        names = np.array(label_map.names, dtype=object)[ids] if len(ids) else ids.astype(object)
        yield _Areas(ids, names, pixels, ground.areas_m2(shapes, size), placed)


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


def _refuse_unlike(path: Path, features: int) -> None:
    """GDAL does not report every failed write when it closes a file, so look."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        faults = [text for (text,) in database.execute("PRAGMA quick_check")]
        (found,) = database.execute("SELECT count(*) FROM classes").fetchone()
    if faults != ["ok"] or found != features:
        raise ResourceError(
            "SEG-R004",
            "the polygons could not be read back as they were written",
            file=path,
            observed=f"{found} polygons; {faults[0]}",
            allowed=f"{features} polygons",
            next_step="check the disk, then run the same command again",
        )


def _place(xy: NDArray[np.float64], matrix: tuple[float, ...]) -> NDArray[np.float64]:
    a, b, d, e, c, f = matrix
    x, y = xy[:, 0], xy[:, 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _whole_shapes(
    groups: Iterable[NDArray[np.integer]], num_rows: int, nodata: int
) -> Iterator[Shapes]:
    """Yield polygons that no further row touches, after each group of rows."""
    import shapely

    open_shapes: Shapes = {}
    row = 0
    for labels_RW in groups:
        found = _shapes_of(labels_RW, row, nodata)
        top, row = row, row + len(labels_RW)
        finished: Shapes = defaultdict(list)
        still_open: Shapes = defaultdict(list)
        for k in found.keys() | open_shapes.keys():
            whole = _joined(open_shapes.get(k, []), found.get(k, []), top)
            ends = shapely.bounds(whole)[:, 3] if whole else []
            for shape, end in zip(whole, ends, strict=True):
                (finished if end < row or row == num_rows else still_open)[k].append(shape)
        open_shapes = still_open
        yield dict(sorted(finished.items()))


def _shapes_of(labels_RW: NDArray[np.integer], row: int, nodata: int) -> Shapes:
    from shapely.geometry import shape

    found: Shapes = defaultdict(list)
    for geometry, k in rasters.areas_of_equal_pixels(labels_RW, row, nodata):
        found[k].append(shape(geometry))
    return found


def _joined(above: list[Any], below: list[Any], seam: int) -> list[Any]:
    """Join polygons that share a side along the row `seam`; `above` all reach down to it."""
    import shapely

    if not above:
        return below
    touching = [shape for shape in below if shape.bounds[1] == seam]
    others = [shape for shape in below if shape.bounds[1] > seam]
    joined = shapely.get_parts(shapely.union_all([*above, *touching]))
    # The ends of the seam are left as corners on straight sides.
    return [*shapely.simplify(joined, 0), *others]


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
