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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.disk_errors import not_written, writing
from terrazzo.base.errors import ConfigError, ResourceError, TerrazzoError
from terrazzo.data import ground
from terrazzo.data.labels import LabelMap
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo

SUFFIX = ".gpkg"
"""GeoPackage: features can be added to it, it holds any CRS, and every GIS reads it."""

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
    NaN where the CRS has no ellipsoid.

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
    t = size.transform
    matrix = (t.a, t.b, t.d, t.e, t.c, t.f)
    for finished in _whole_shapes(groups, size.rows, label_map.ignore_index):
        ids = np.repeat(list(finished), [len(shapes) for shapes in finished.values()])
        shapes = np.array([s for shapes in finished.values() for s in shapes], dtype=object)
        pixels = np.round(shapely.area(shapes)).astype(np.int64)
        areas = ground.areas_m2(shapes, size)
        placed = shapely.transform(shapes, lambda xy: _place(xy, matrix))
        names = np.array(label_map.names, dtype=object)[ids] if len(ids) else ids.astype(object)
        features += len(ids)
        with _gdal_writes(path):
            pyogrio.raw.write(
                str(path),
                geometry=shapely.to_wkb(placed),
                field_data=[ids.astype(np.int32), names, pixels, areas],
                fields=["class_id", "class_name", "pixels", "area_m2"],
                geometry_type="Polygon",
                crs=_NOWHERE if size.crs is None else size.crs.to_wkt(),
                driver="GPKG",
                layer="classes",
                append=path.exists(),
            )
    with _gdal_writes(path):
        _refuse_unlike(path, features)


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
