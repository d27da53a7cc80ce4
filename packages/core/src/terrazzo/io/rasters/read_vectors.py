"""Shapes as files hold them: GeoJSON by itself; GeoPackage, Shapefile, FlatGeobuf by pyogrio.

What a file is is told by its name and then by its first bytes: the library left to choose would
follow a description of another file under the name ``.shp``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio import features
from rasterio.crs import CRS
from rasterio.warp import transform_geom

from terrazzo.base.errors import DataError
from terrazzo.io.rasters import turns
from terrazzo.io.rasters.follow_edges import along_edges
from terrazzo.io.rasters.grids import GDAL_ERRORS, crs_text, moved, require_crs, same_crs
from terrazzo.io.rasters.handles import ENVIRONMENT, damaged, first_bytes, refuse_remote
from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.rasters.read_geojson import geojson_columns, read_geojson
from terrazzo.io.rasters.vector_layer import (
    Layer,
    faulty_coordinate,
    import_vector_package,
    is_empty,
    is_null,
    named_crs,
    no_attribute,
    no_layer,
    wrong,
)


@dataclass(frozen=True, slots=True)
class Features:
    """Shapes in the coordinates of a grid.

    Attributes:
        path: the file.
        geometries: N geometries as GeoJSON has them.
        values: N values of the chosen attribute; None each where none was chosen.
        numbers: N positions among the shapes of the file, from 0, for messages.
        num_empty: shapes that have no geometry, or one without a point; they are none of the N.
        crs_taken: what the file does not say of its CRS and was taken for granted; empty: nothing.
    """

    path: Path
    geometries: tuple[Any, ...]
    values: tuple[Any, ...]
    numbers: tuple[int, ...]
    num_empty: int = 0
    crs_taken: str = ""


def is_vector(path: Path) -> bool:
    """Tell whether a file is one of shapes, by its name; some kinds are refused where read."""
    return path.suffix.lower() in (*_READERS, *_NOT_READ)


def read_features(
    path: Path,
    onto: RasterInfo,
    *,
    attribute: str | None = None,
    layer: str | None = None,
    reproject: bool = False,
    edges: bool = False,
    tolerance: float = 0.0,
) -> Features:
    """Read the shapes of a vector file in the coordinates of a grid.

    Shapes without a CRS are taken to be in that of the grid; GeoJSON without one that is to be
    reprojected is in longitude and latitude, as RFC 7946 has it. `Features.crs_taken` says so.
    Shapes on the other side of ±180° are brought to that of the grid, see `turns`.

    Args:
        path: GeoJSON, GeoPackage, Shapefile or FlatGeobuf, told by its suffix.
        onto: the grid.
        attribute: what to read of every shape.
        layer: of a GeoPackage with several.
        reproject: bring shapes in another CRS onto that of the grid, corner by corner.
        edges: do so along their edges, which are bent then, with more points.
        tolerance: pixels by which points may move from one CRS to the other without reprojection.

    Raises:
        ConfigError: SEG-X011 several layers or none of that name; SEG-X003 pyogrio is missing.
        DataError: SEG-D011 damaged; SEG-D012 another kind of file, a shape that is none, or an
            attribute that is missing; SEG-D013 unreadable; SEG-D025 another CRS than the grid's;
            SEG-D027 no CRS to reproject by; SEG-D028 shapes that all lie beside the grid; SEG-D030
            a remote path.
    """
    refuse_remote(path)
    _refuse_other_formats(path)
    found = _READERS[path.suffix.lower()](path, attribute, layer)
    numbers = [at for at, shape in enumerate(found.geometries) if not is_empty(shape)]
    shown = [found.geometries[at] for at in numbers]
    for number, geometry in zip(numbers, shown, strict=True):
        if not features.is_valid_geom(geometry):
            raise wrong(path, f"shape {number} is a {geometry.get('type')} of too few points")
        faulty = faulty_coordinate(geometry)
        if faulty is not None:
            raise wrong(path, f"shape {number} has the coordinate {faulty}")
    crs, taken = found.crs, ""
    if crs is None and reproject and path.suffix.lower() in _GEOJSON:
        crs, taken = CRS.from_epsg(4326), "longitude and latitude, as RFC 7946 has it"
    elif crs is None and onto.crs is not None:
        taken = f"coordinates in the CRS of the image, {crs_text(onto.crs)}"
    placed = _placed(path, shown, crs, onto, reproject, edges, tolerance)
    geometries = turns.brought_to(placed, onto)
    _refuse_beside(path, geometries, onto)
    return Features(
        path,
        tuple(geometries),
        tuple(found.values[at] for at in numbers),
        tuple(numbers),
        len(found.geometries) - len(numbers),
        taken,
    )


def _refuse_other_formats(path: Path) -> None:
    if path.suffix.lower() in _NOT_READ:
        raise DataError(
            "SEG-D012",
            "this kind of file of shapes is not read",
            file=path,
            observed=path.suffix,
            allowed="GeoJSON, GeoPackage, Shapefile, FlatGeobuf",
            next_step=f"convert it: `ogr2ogr {path.with_suffix('.gpkg')} {path}`",
        )


def layer_of(path: Path, *, preferred: str) -> str | None:
    """Return the layer of a name where a GeoPackage has it among others; else None.

    QGIS puts styles into a GeoPackage as another layer.

    Raises:
        ConfigError: SEG-X003 pyogrio is missing.
        DataError: as `read_features`.
    """
    if path.suffix.lower() != ".gpkg":
        return None
    refuse_remote(path)
    _refuse_other_than_geopackage(path)
    pyogrio = import_vector_package("pyogrio")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    except _errors(pyogrio) as error:
        raise damaged(path, error) from None
    return preferred if preferred in layers else None


def attributes(path: Path, layer: str | None = None) -> dict[str, bool]:
    """Return the attributes of a file, and which may tell classes apart: text, repeated numbers.

    Raises:
        ConfigError: as `read_features`.
        DataError: as `read_features`.
    """
    return {name: _is_class_like(v) for name, v in attribute_values(path, layer).items()}


def attribute_values(path: Path, layer: str | None = None) -> dict[str, list[Any]]:
    """Return the value of each attribute for each shape.

    Raises:
        ConfigError: as `read_features`.
        DataError: as `read_features`.
    """
    refuse_remote(path)
    _refuse_other_formats(path)
    if path.suffix.lower() in _GEOJSON:
        return geojson_columns(path)
    return _pyogrio_columns(path, layer)


def _is_class_like(values: Sequence[Any]) -> bool:
    told = [value for value in values if not is_null(value)]
    if any(isinstance(value, str) for value in told):
        return True
    whole = [v for v in told if isinstance(v, int | float) and math.isfinite(v) and v % 1 == 0]
    return len(whole) == len(told) and 1 < len(set(told)) < len(told)


def _placed(
    path: Path,
    geometries: list[Any],
    crs: Any,
    onto: RasterInfo,
    reproject: bool,
    edges: bool,
    tolerance: float,
) -> list[Any]:
    if reproject:
        require_crs(path, crs, onto.crs)
    if crs is None or same_crs(crs, onto.crs):
        return geometries
    if reproject:
        try:
            with rasterio.Env(**ENVIRONMENT):
                if edges:
                    return [along_edges(each, crs, onto) for each in geometries]
                return list(transform_geom(crs, onto.crs, geometries)) if geometries else []
        except GDAL_ERRORS as error:
            raise _beside(
                path, f"{error}; coordinates such as {_corner(geometries)}", onto
            ) from None
    if tolerance == 0 or moved(onto, crs) > tolerance:
        raise DataError(
            "SEG-D025",
            "the shapes are in another CRS than the image",
            file=path,
            observed=crs_text(crs),
            allowed=crs_text(onto.crs),
            next_step='set align = "reproject", or reproject the file, e.g. `ogr2ogr -t_srs …`; if '
            "both mean the same place, set crs_tolerance to the pixels they may differ by",
        )
    return geometries


def _refuse_beside(path: Path, geometries: list[Any], onto: RasterInfo) -> None:
    """Refuse a file whose shapes all lie beside the grid: its CRS is not what it seems."""
    if not geometries:
        return
    boxes = [features.bounds(geometry) for geometry in geometries]
    left, bottom = (min(box[side] for box in boxes) for side in (0, 1))
    right, top = (max(box[side] for box in boxes) for side in (2, 3))
    corners = [
        onto.to_pixels(*corner)
        for corner in ((left, bottom), (left, top), (right, bottom), (right, top))
    ]
    columns, rows = zip(*corners, strict=True)
    if max(columns) < 0 or min(columns) > onto.columns or max(rows) < 0 or min(rows) > onto.rows:
        box = f"from ({left:.9g}, {bottom:.9g}) to ({right:.9g}, {top:.9g})"
        raise _beside(path, f"shapes {box}", onto)


def _beside(path: Path, observed: str, onto: RasterInfo) -> DataError:
    near, far = onto.to_coordinates(0, 0), onto.to_coordinates(onto.columns, onto.rows)
    return DataError(
        "SEG-D028",
        "all shapes lie beside the image",
        file=path,
        observed=observed,
        allowed=f"shapes on the image, from ({near[0]:.9g}, {near[1]:.9g}) to ({far[0]:.9g}, "
        f"{far[1]:.9g}) in {crs_text(onto.crs)}",
        next_step="check the CRS of both; longitude and latitude need one in the file and "
        'align = "reproject"',
    )


def _corner(geometries: list[Any]) -> str:
    left, bottom, *_ = features.bounds(geometries[0])
    return f"({left:.9g}, {bottom:.9g})"


def _pyogrio_columns(path: Path, layer: str | None) -> dict[str, list[Any]]:
    pyogrio = import_vector_package("pyogrio")
    try:
        layer = layer or next(iter(_layers(pyogrio, path)), None)
        meta, _, _, columns = pyogrio.raw.read(path, layer=layer, read_geometry=False)
    except _errors(pyogrio) as error:
        raise damaged(path, error) from None
    names = meta["fields"].tolist()
    return {name: column.tolist() for name, column in zip(names, columns, strict=True)}


def _read_geopackage(path: Path, attribute: str | None, layer: str | None) -> Layer:
    _refuse_other_than_geopackage(path)
    return _read_with_pyogrio(path, attribute, layer)


def _refuse_other_than_geopackage(path: Path) -> None:
    head = first_bytes(path)
    if not (head.startswith(b"SQLite format 3\0") and head[68:72] in (b"GPKG", b"GP10", b"GP11")):
        raise wrong(path, "the content is no GeoPackage")


def _read_shapefile(path: Path, attribute: str | None, layer: str | None) -> Layer:
    head = first_bytes(path)
    if head[:4] != struct.pack(">i", 9994):
        raise wrong(path, "the content is no Shapefile")
    _refuse_cut_off(path, head)
    return _read_with_pyogrio(path, attribute, layer)


def _refuse_cut_off(path: Path, head: bytes) -> None:
    """Refuse a Shapefile that ends early: GDAL hands out what is missing as shapes of nothing."""
    length = 2 * int.from_bytes(head[24:28], "big")
    found = path.stat().st_size
    if found < length:
        raise DataError(
            "SEG-D011",
            "the file is truncated or damaged",
            file=path,
            observed=f"{found} bytes, of which its head says there are {length}",
            next_step="copy or export the file again",
        )


def _errors(pyogrio: Any) -> tuple[type[Exception], ...]:
    """Return what pyogrio says of a file that it cannot read."""
    known = pyogrio.errors
    return (known.DataSourceError, known.DataLayerError, known.FeatureError, known.GeometryError)


def _read_flatgeobuf(path: Path, attribute: str | None, layer: str | None) -> Layer:
    head = first_bytes(path)
    if not (head.startswith(b"fgb") and head[4:7] == b"fgb"):  # the others are its version
        raise wrong(path, "the content is no FlatGeobuf")
    return _read_with_pyogrio(path, attribute, layer)


def _read_with_pyogrio(path: Path, attribute: str | None, layer: str | None) -> Layer:
    pyogrio, shapely = import_vector_package("pyogrio"), import_vector_package("shapely")
    try:
        layers = _layers(pyogrio, path)
        if not layers:
            raise wrong(path, "no layer that can be read; it may be cut off")
        if layer is None and len(layers) == 1:
            layer = layers[0]
        if layer not in layers:
            raise no_layer(path, layer, layers)
        known = list(pyogrio.read_info(path, layer=layer)["fields"])
        if attribute is not None and attribute not in known:
            raise no_attribute(path, attribute, known)
        meta, _, shapes_wkb, columns = pyogrio.raw.read(
            path, layer=layer, columns=[attribute] if attribute else [], force_2d=True
        )
    except _errors(pyogrio) as error:
        raise damaged(path, error) from None
    shapes = _shapes_of(path, shapes_wkb, shapely)
    values = columns[0].tolist() if attribute else [None] * len(shapes)
    geometries = [
        None if shape is None or shape.is_empty else shapely.geometry.mapping(shape)
        for shape in shapes
    ]
    no_crs = not meta["crs"] or _NO_CRS in meta["crs"]
    crs = None if no_crs else named_crs(meta["crs"])
    return Layer(geometries, values, crs)


def _shapes_of(path: Path, shapes_wkb: Sequence[bytes | None], shapely: Any) -> Sequence[Any]:
    try:
        return list(shapely.from_wkb(shapes_wkb))
    except shapely.errors.GEOSException:
        pass  # of which shape is not said
    for number, shape_wkb in enumerate(shapes_wkb):
        try:
            shapely.from_wkb(shape_wkb)
        except shapely.errors.GEOSException as error:
            raise wrong(path, f"shape {number} cannot be read: {error}") from None
    raise AssertionError


_NO_CRS = "Undefined Cartesian SRS"  # what a GeoPackage says where coordinates have none


def _layers(pyogrio: Any, path: Path) -> list[str]:
    """Name the layers of a file; the table of styles that QGIS keeps in a GeoPackage is none."""
    names = (str(name) for name in pyogrio.list_layers(path)[:, 0])
    return [name for name in names if name != _STYLES]


_STYLES = "layer_styles"
_GEOJSON = (".geojson", ".json")
_READERS: dict[str, Callable[[Path, str | None, str | None], Layer]] = {
    ".geojson": read_geojson,
    ".json": read_geojson,
    ".gpkg": _read_geopackage,
    ".shp": _read_shapefile,
    ".fgb": _read_flatgeobuf,
}
_NOT_READ = (
    ".kml", ".kmz", ".gml", ".gpx", ".dxf", ".mif", ".geojsonl", ".geojsons", ".topojson",
    ".parquet", ".geoparquet", ".arrow", ".sqlite", ".gdb",
)  # fmt: skip
"""Names of other files of shapes: told apart from rasters, to be refused as what they are."""
