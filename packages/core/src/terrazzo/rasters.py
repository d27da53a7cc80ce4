"""GeoTIFF files as arrays: the only module that imports rasterio.

Every file is opened by the GTiff driver alone, after its first bytes were seen to be TIFF: GDAL
left to choose follows a VRT that calls itself ``.tif`` to any file of the machine or the network.
Sidecars (``.aux.xml``, ``.tfw``, ``.ovr``, ``.msk``) are not looked for; they can change what a
pixel means without the file itself changing.

GDAL handles must not be shared between threads, so each thread keeps a few of its own.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio import features
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from terrazzo import image_headers
from terrazzo.atomic import replacing
from terrazzo.errors import DataError, ResourceError

BYTE_LIMIT = 1 << 31
"""Largest array `read` makes; a larger scene is read by window."""

IMAGE_DTYPES = ("uint8", "uint16", "float32")

BLOCK = 256
"""Rows and columns of the blocks of written files."""

_ENVIRONMENT = {
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
}
_CACHE_BYTES = 64 << 20
"""GDAL's own cache would grow to a twentieth of the memory; nothing here is read twice."""
_HANDLES_PER_THREAD = 8  # 16 threads then stay far below the usual 1024 open files
_REMOTE = re.compile(r"/vsi|[A-Za-z][A-Za-z0-9+.-]+:/")


@dataclass(frozen=True, slots=True)
class RasterInfo:
    """What a GeoTIFF says of itself.

    Attributes:
        rows: height in pixels.
        columns: width in pixels.
        band_names: C names; ``band 1`` … where the file gives none. An alpha band is none of them.
        dtype: NumPy dtype name of all bands.
        nodata: value of pixels without data, or None.
        crs: rasterio CRS, or None.
        transform: affine.Affine from (column, row) to coordinates.
    """

    rows: int
    columns: int
    band_names: tuple[str, ...]
    dtype: str
    nodata: float | None
    crs: Any
    transform: Any

    @property
    def bands(self) -> int:
        """C."""
        return len(self.band_names)

    @property
    def has_place(self) -> bool:
        """Whether the file says where on the ground it lies."""
        return not self.transform.is_identity

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in the units of the CRS, also where the raster is turned."""
        t = self.transform
        return math.hypot(t.b, t.e), math.hypot(t.a, t.d)


class _Handles(threading.local):
    def __init__(self) -> None:
        self.open: OrderedDict[tuple[str, int, int], Any] = OrderedDict()


_handles = _Handles()
_opening = threading.Lock()


def info(path: Path) -> RasterInfo:
    """Read the header of a GeoTIFF.

    Raises:
        DataError: SEG-D011 damaged; SEG-D012 not TIFF; SEG-D013 missing, empty or unreadable;
            SEG-D030 a VRT or a remote path.
    """
    dataset = _handle(path)
    names = tuple(dataset.descriptions[n - 1] or f"band {n}" for n in _image_bands(dataset))
    return RasterInfo(
        dataset.height,
        dataset.width,
        names,
        dataset.dtypes[0],
        dataset.nodata,
        dataset.crs,
        dataset.transform,
    )


def read(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a whole GeoTIFF; see `read_window`.

    Raises:
        DataError: as `read_window`; SEG-D031 it would take more than `BYTE_LIMIT` bytes.
    """
    size = info(path)
    needed = size.rows * size.columns * size.bands * np.dtype(size.dtype).itemsize
    if needed > BYTE_LIMIT:
        raise DataError(
            "SEG-D031",
            "the raster is too large to be read at once",
            file=path,
            observed=f"{size.rows} rows × {size.columns} columns × {size.bands} bands of "
            f"{size.dtype}: {needed} bytes",
            allowed=f"{BYTE_LIMIT} bytes",
            next_step="cut it into tiles",
        )
    return read_window(path, 0, 0, size.rows, size.columns)


def read_window(
    path: Path,
    row: int,
    column: int,
    rows: int,
    columns: int,
    bands: tuple[int, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a part of a GeoTIFF that lies inside it; safe to call from several threads.

    A pixel is invalid where every band equals nodata: one band alone may reach that value in a
    dark but true pixel. It is invalid too where any band is NaN, and set to 0 there: a NaN would
    spread through every convolution. It is invalid where an alpha band or a mask inside the file
    says so.

    Args:
        path: a GeoTIFF file.
        row: first row.
        column: first column.
        rows: height in pixels.
        columns: width in pixels.
        bands: positions in `RasterInfo.band_names`, from 0. None: all of them.

    Returns:
        H×W×C of one of `IMAGE_DTYPES`, and H×W bool, False where there is no data.

    Raises:
        DataError: as `info`; SEG-D011 truncated or damaged; SEG-D019 another data type; SEG-D022
            an infinite pixel; SEG-D029 part of the window was never written.
    """
    dataset = _handle(path)
    dtype = next((d for d in dataset.dtypes if d not in IMAGE_DTYPES), None)
    if dtype is not None:
        raise DataError(
            "SEG-D019",
            "this kind of pixel is not read",
            file=path,
            observed=dtype,
            allowed=", ".join(IMAGE_DTYPES),
            next_step="convert the raster, e.g. `gdal_translate -ot Float32`",
        )
    image_bands = _image_bands(dataset)
    indexes = image_bands if bands is None else tuple(image_bands[band] for band in bands)
    window = Window(column, row, columns, rows)
    image_CHW = _read(path, dataset, window, indexes)
    valid_HW = _mask(path, dataset, window)
    if image_CHW.dtype.kind == "f":
        valid_HW &= ~np.isnan(image_CHW).any(axis=0)
        image_CHW[:, ~valid_HW] = 0
        _refuse_infinite(path, dataset, image_CHW, row, column, indexes)
    if dataset.nodata is not None:
        valid_HW &= (image_CHW != dataset.nodata).any(axis=0)
    return np.ascontiguousarray(np.moveaxis(image_CHW, 0, 2)), valid_HW


def _image_bands(dataset: Any) -> tuple[int, ...]:
    """Return the numbers of the bands that are no alpha band, from 1.

    GDAL takes the fourth of four nameless 8-bit bands for alpha; a band with a name is a band.
    """
    return tuple(
        number
        for number, kind, name in zip(
            dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True
        )
        if kind is not ColorInterp.alpha or name
    )


def _mask(path: Path, dataset: Any, window: Window) -> NDArray[np.bool_]:
    """Return where an alpha band or an inner mask lets pixels count."""
    alpha = set(dataset.indexes) - set(_image_bands(dataset))
    if alpha:
        alpha_CHW = _read(path, dataset, window, tuple(alpha))
        valid_HW: NDArray[np.bool_] = np.logical_and.reduce(alpha_CHW > 0)
        return valid_HW
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        with _gdal_errors(path):
            inner_HW: NDArray[np.bool_] = dataset.read_masks(1, window=window) > 0
        return inner_HW
    return np.ones((int(window.height), int(window.width)), dtype=bool)


def _refuse_infinite(
    path: Path,
    dataset: Any,
    image_CHW: NDArray[Any],
    row: int,
    column: int,
    indexes: tuple[int, ...],
) -> None:
    infinite = np.isinf(image_CHW)
    if dataset.nodata is not None and math.isinf(dataset.nodata):
        infinite &= image_CHW != dataset.nodata
    if infinite.any():
        band, y, x = (int(axis[0]) for axis in np.nonzero(infinite))
        raise DataError(
            "SEG-D022",
            "the raster has infinite pixels",
            file=path,
            observed=f"{int(infinite.sum())} px, first in band {indexes[band]} at row {row + y}, "
            f"column {column + x}",
            allowed="finite numbers; NaN for no data",
            next_step="set these pixels to NaN or to the nodata value",
        )


def read_label(path: Path, kind: Literal["index", "colour"]) -> NDArray[Any]:
    """Read a whole GeoTIFF of labels, exactly as stored.

    Returns:
        H×W integers for ``index``, H×W×3 uint8 for ``colour``.

    Raises:
        DataError: as `info`; SEG-D007 not one integer band, or three of uint8; SEG-D011 truncated
            or damaged; SEG-D029 part of it was never written, which would read as class 0.
    """
    size = info(path)
    fits = (
        size.bands == 1 and np.dtype(size.dtype).kind in "ui"
        if kind == "index"
        else size.bands == 3 and size.dtype == "uint8"
    )
    if not fits:
        raise DataError(
            "SEG-D007",
            f"the raster does not hold a mask of the kind {kind!r}",
            file=path,
            observed=f"{size.bands} band(s) of {size.dtype}",
            allowed="1 band of integers (index), 3 bands of uint8 (colour)",
            next_step="convert the mask, or set mask_kind in data.options",
        )
    return read_label_window(path, 0, 0, size.rows, size.columns)


def read_label_window(path: Path, row: int, column: int, rows: int, columns: int) -> NDArray[Any]:
    """Read a part of a GeoTIFF of labels that lies inside it.

    Returns:
        H×W where the file has one band, else H×W×C; the file's own dtype.

    Raises:
        DataError: as `read_label`.
    """
    values_CHW = _read(path, _handle(path), Window(column, row, columns, rows))
    if values_CHW.shape[0] == 1:
        label_HW: NDArray[Any] = values_CHW[0]
        return label_HW
    return np.ascontiguousarray(np.moveaxis(values_CHW, 0, 2))


def read_label_with_mask(
    path: Path, row: int, column: int, rows: int, columns: int, *, onto: RasterInfo | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a part of a GeoTIFF of class indices, and where it holds any.

    Args:
        path: one band of integers.
        row: first row.
        column: first column.
        rows: height in pixels.
        columns: width in pixels.
        onto: a grid that the raster is brought onto, nearest neighbour; the window is counted there
            and may reach beyond the raster. None: the raster's own.

    Returns:
        H×W integers, and H×W bool, False at the raster's nodata and outside it.

    Raises:
        DataError: as `read_label`; SEG-D027 no CRS to reproject by.
    """
    dataset = _handle(path)
    if len(dataset.indexes) != 1 or np.dtype(dataset.dtypes[0]).kind not in "ui":
        raise DataError(
            "SEG-D007",
            "the raster does not hold class indices",
            file=path,
            observed=f"{dataset.count} band(s) of {dataset.dtypes[0]}",
            allowed="1 band of integers",
            next_step="convert the labels",
        )
    if onto is None:
        label_HW = _read(path, dataset, Window(column, row, columns, rows))[0]
        declared = np.ones(label_HW.shape, bool)
    else:
        label_HW, declared = _reprojected(path, dataset, row, column, rows, columns, onto)
    if dataset.nodata is not None:
        declared &= label_HW != dataset.nodata
    return label_HW, declared


def _reprojected(
    path: Path, dataset: Any, row: int, column: int, rows: int, columns: int, onto: RasterInfo
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if dataset.crs is None or onto.crs is None:
        raise DataError(
            "SEG-D027",
            "a raster without a CRS cannot be brought onto another grid",
            file=path,
            observed=f"label CRS {_crs_text(dataset.crs)}, image CRS {_crs_text(onto.crs)}",
            next_step='give both a CRS, or use align = "exact" for rasters of one grid',
        )
    if dataset.nodata is None:
        _refuse_unwritten(path, dataset, Window(0, 0, dataset.width, dataset.height))
    place = {"crs": onto.crs, "transform": onto.transform}
    size = {"width": onto.columns, "height": onto.rows}
    window = Window(column, row, columns, rows)
    with (
        _gdal_errors(path),
        WarpedVRT(
            dataset,
            **place,
            **size,
            resampling=Resampling.nearest,
            tolerance=1e-3,  # pixels by which GDAL may approximate the way between the CRS
            add_alpha=True,
        ) as warped,
    ):
        values_CHW = warped.read(window=window)
    return values_CHW[0], values_CHW[-1] > 0


def require_same_grid(
    image: Path, expected: RasterInfo, other: Path, found: RasterInfo, *, tolerance: float = 0.0
) -> None:
    """Refuse a raster that does not lie on the grid of another one, pixel by pixel.

    Args:
        image: the file that gives the grid.
        expected: its header.
        other: the file to check.
        found: its header.
        tolerance: pixels by which points may move from one CRS to the other where these differ.

    Raises:
        DataError: SEG-D009 sizes differ; SEG-D025 CRS differ; SEG-D026 transforms differ.
    """
    if (expected.rows, expected.columns) != (found.rows, found.columns):
        raise DataError(
            "SEG-D009",
            "the rasters of a scene differ in size",
            file=other,
            observed=f"{found.rows}×{found.columns} (rows×columns)",
            allowed=f"{expected.rows}×{expected.columns}, as in {image}",
            next_step='cut them to one grid, or set align = "reproject"',
        )
    offset = _offset(expected, found)
    if offset > 1e-3:  # what rounding in a file's numbers may do to a large scene
        raise DataError(
            "SEG-D026",
            f"the rasters of a scene do not lie on each other: up to {offset:.2f} px apart",
            file=other,
            observed=_transform_text(found),
            allowed=f"{_transform_text(expected)}, as in {image}",
            next_step='export the labels on the grid of the image, or set align = "reproject"',
        )
    if _same_crs(expected.crs, found.crs):
        return
    moved = _moved(expected, found)
    # Without a tolerance no measure will do: GDAL knows no shift from a datum it does not know.
    if tolerance == 0 or moved > tolerance:
        raise DataError(
            "SEG-D025",
            "the rasters of a scene differ in CRS",
            file=other,
            observed=f"{_crs_text(found.crs)}; from one to the other points move by "
            + (f"{moved:.4f} px" if math.isfinite(moved) else "an unknown distance"),
            allowed=f"{_crs_text(expected.crs)}, as in {image}",
            next_step='set align = "reproject"; or, if both mean the same place, crs_tolerance to '
            "the pixels they may differ by",
        )


def _grid_points(size: RasterInfo) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 9×9 points over a raster as columns and rows."""
    columns, rows = np.meshgrid(np.linspace(0, size.columns, 9), np.linspace(0, size.rows, 9))
    return columns.ravel(), rows.ravel()


def _offset(expected: RasterInfo, found: RasterInfo) -> float:
    """Return how far the two transforms put the corners apart, in pixels of the first."""
    columns, rows = _grid_points(expected)
    back_columns, back_rows = ~expected.transform @ (found.transform @ (columns, rows))
    return float(np.hypot(back_columns - columns, back_rows - rows).max())


def _moved(expected: RasterInfo, found: RasterInfo) -> float:
    """Return how far points of the scene move from one CRS to the other, in pixels."""
    if expected.crs is None or found.crs is None:
        return math.inf
    columns, rows = _grid_points(expected)
    x, y = found.transform @ (columns, rows)
    try:
        moved_x, moved_y = transform_points(found.crs, expected.crs, x, y)
    except RasterioError:
        return math.inf
    back_columns, back_rows = ~expected.transform @ (np.array(moved_x), np.array(moved_y))
    distance = float(np.hypot(back_columns - columns, back_rows - rows).max())
    return distance if math.isfinite(distance) else math.inf


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
        raise _unreadable(path, error) from None
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
    if named is not None and not _same_crs(CRS.from_user_input(named), onto.crs):
        raise DataError(
            "SEG-D025",
            "the polygons are in another CRS than the image",
            file=path,
            observed=named,
            allowed=_crs_text(onto.crs),
            next_step="reproject the polygons, e.g. `ogr2ogr -t_srs EPSG:… out.geojson in.geojson`",
        )
    label_HW = np.full((onto.rows, onto.columns), background, np.uint8)
    if shapes:
        with rasterio.Env(**_ENVIRONMENT):
            features.rasterize(shapes, out=label_HW, transform=onto.transform)
    return label_HW


def _same_crs(one: Any, other: Any) -> bool:
    """Tell whether two CRS are the same, their datum included.

    rasterio takes an unknown datum for equal to any of the same ellipsoid; two EPSG codes are not.
    """
    if one is None or other is None or one != other:
        return one is other
    codes = {crs.to_epsg() for crs in (one, other)} - {None}
    return len(codes) <= 1


def _crs_text(crs: Any) -> str:
    if crs is None:
        return "none"
    return str(crs.to_string()) if crs.to_epsg() else str(crs.to_wkt())


def _transform_text(info: RasterInfo) -> str:
    t = info.transform
    return f"({t.a:g}, {t.b:g}, {t.c:.9g}, {t.d:g}, {t.e:g}, {t.f:.9g})"


def write(
    path: Path,
    image_HWC: NDArray[Any],
    *,
    crs: Any,
    transform: Any,
    nodata: float | None = None,
    band_names: tuple[str, ...] | None = None,
) -> None:
    """Write a tiled, deflated GeoTIFF; complete or not at all.

    Args:
        path: where to.
        image_HWC: H×W×C.
        crs: anything rasterio takes, e.g. ``"EPSG:32633"``; None for a picture without a place.
        transform: affine.Affine from (column, row) to coordinates, or None.
        nodata: value of pixels without data.
        band_names: C names.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    rows, columns, bands = image_HWC.shape
    bands_CHW = np.moveaxis(image_HWC, 2, 0)
    profile = {
        "height": rows,
        "width": columns,
        "count": bands,
        "dtype": image_HWC.dtype.name,
        "crs": crs,
        "transform": transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "predictor": 3 if image_HWC.dtype.kind == "f" else 2,
        "interleave": "pixel",
        "bigtiff": "if_safer",
    }
    with replacing(path) as temporary, rasterio.Env(**_ENVIRONMENT):
        with _open_quietly(temporary, "w", **profile) as dataset:
            dataset.write(bands_CHW)
            if band_names is not None:
                dataset.descriptions = band_names
        # GDAL does not report every failed write when it closes a file, so look.
        with _open_quietly(temporary) as dataset:
            written = dataset.read()
        if not np.array_equal(written, bands_CHW, equal_nan=bands_CHW.dtype.kind == "f"):
            raise ResourceError(
                "SEG-R004",
                "the file could not be read back as it was written",
                file=path,
                next_step="check the disk; nothing was changed",
            )


def write_rows(
    path: Path,
    like: RasterInfo,
    groups: Iterable[NDArray[Any]],
    *,
    dtype: str,
    nodata: float,
    band_names: tuple[str, ...],
    colours_K3: NDArray[np.uint8] | None = None,
    tags: Mapping[str, str],
    cloud_optimised: bool = False,
) -> None:
    """Write a GeoTIFF on the grid of another one, some rows at a time; then read it back.

    The bytes depend on nothing but the arguments. Nothing is renamed here: use a temporary path.

    Args:
        path: where to; replaced if it is there.
        like: gives size, CRS and transform.
        groups: C×R×W from the first row to the last, with R a multiple of `BLOCK` but for the last.
        dtype: of the pixels.
        nodata: value of pixels without data.
        band_names: C names.
        colours_K3: palette for one band of uint8.
        tags: words about the file.
        cloud_optimised: write the overviews and the order of a cloud optimised GeoTIFF.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses, or gives back other bytes.
    """
    profile = {
        "height": like.rows,
        "width": like.columns,
        "count": len(band_names),
        "dtype": dtype,
        "crs": like.crs,
        "transform": like.transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "predictor": 3 if np.dtype(dtype).kind == "f" else 1,
        "interleave": "pixel",
        "photometric": "minisblack",
        "bigtiff": "if_safer",
    }
    sums = []
    try:
        with _environment(), _open_quietly(path, "w", **profile) as dataset:
            dataset.descriptions = band_names
            dataset.update_tags(**tags)
            if colours_K3 is not None and dtype == "uint8":
                palette = {k: (*map(int, colour), 255) for k, colour in enumerate(colours_K3)}
                dataset.write_colormap(1, palette)
            row = 0
            for group_CHW in groups:
                rows = group_CHW.shape[1]
                group_CHW = np.ascontiguousarray(group_CHW)
                dataset.write(group_CHW, window=Window(0, row, like.columns, rows))
                sums.append((rows, zlib.crc32(group_CHW.data)))
                row += rows
        assert row == like.rows
        if cloud_optimised:
            _make_cloud_optimised(path)
        _refuse_unlike(path, sums)
    except (RasterioError, OSError) as error:
        if isinstance(error, ResourceError):
            raise
        raise ResourceError(
            "SEG-R004",
            "the raster could not be written",
            file=path,
            observed=f"{error.__cause__ or error}; "
            f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB free on this disk",
            next_step="free some space, then go on with --resume",
        ) from error


def _make_cloud_optimised(path: Path) -> None:
    plain = path.with_suffix(".plain.tif")
    path.rename(plain)
    try:
        rasterio.shutil.copy(
            plain,
            path,
            driver="COG",
            COMPRESS="DEFLATE",
            BLOCKSIZE=512,
            OVERVIEW_RESAMPLING="NEAREST",  # classes must not be averaged
            BIGTIFF="IF_SAFER",
        )
    finally:
        plain.unlink()


def _refuse_unlike(path: Path, sums: list[tuple[int, int]]) -> None:
    """GDAL does not report every failed write when it closes a file, so look."""
    with _environment(), _open_quietly(path) as dataset:
        row = 0
        for rows, expected in sums:
            values_CHW = dataset.read(window=Window(0, row, dataset.width, rows))
            if zlib.crc32(np.ascontiguousarray(values_CHW).data) != expected:
                raise ResourceError(
                    "SEG-R004",
                    "the raster could not be read back as it was written",
                    file=path,
                    observed=f"rows {row}…{row + rows - 1} differ",
                    next_step="check the disk, then go on with --resume",
                )
            row += rows


def _environment() -> Any:
    return rasterio.Env(**_ENVIRONMENT, GDAL_CACHEMAX=_CACHE_BYTES)


def small_cache() -> Any:
    """Return a context in which GDAL's cache of blocks is small: all is read once there.

    GDAL asks for the limit when it first caches a block, and then keeps it for the process.
    """
    return _environment()


def _read(
    path: Path, dataset: Any, window: Window, indexes: tuple[int, ...] | None = None
) -> NDArray[Any]:
    assert 0 <= window.row_off <= dataset.height - window.height
    assert 0 <= window.col_off <= dataset.width - window.width
    if dataset.nodata is None:
        _refuse_unwritten(path, dataset, window)
    with _gdal_errors(path):
        values_CHW: NDArray[Any] = dataset.read(indexes and list(indexes), window=window)
    return values_CHW


@contextmanager
def _gdal_errors(path: Path) -> Iterator[None]:
    try:
        with rasterio.Env(**_ENVIRONMENT):
            yield
    except RasterioError as error:
        raise _damaged(path, error) from error


def _refuse_unwritten(path: Path, dataset: Any, window: Window) -> None:
    """Refuse blocks that are not in the file: GDAL reads them as 0, which may be a class."""
    height, width = dataset.block_shapes[0]
    last_row, last_column = window.row_off + window.height - 1, window.col_off + window.width - 1
    bands = dataset.indexes if dataset.interleaving is Interleaving.band else (1,)
    unwritten = [
        (block_row * height, block_column * width)
        for band in bands
        for block_row in range(window.row_off // height, last_row // height + 1)
        for block_column in range(window.col_off // width, last_column // width + 1)
        if dataset.get_tag_item(f"BLOCK_OFFSET_{block_column}_{block_row}", "TIFF", bidx=band)
        is None
    ]
    if unwritten:
        raise DataError(
            "SEG-D029",
            "part of the raster was never written, and it declares no nodata value",
            file=path,
            observed=f"{len(unwritten)} blocks of {height}×{width} px, first at row "
            f"{unwritten[0][0]}, column {unwritten[0][1]}",
            next_step="write the file again, or give it a nodata value",
        )


def _handle(path: Path) -> Any:
    """Return this thread's own open data set; opened anew if the file has changed."""
    if _REMOTE.match(str(path)):
        raise DataError(
            "SEG-D030",
            "remote and virtual paths are not read",
            file=path,
            observed=str(path),
            allowed="a GeoTIFF file on this machine",
            next_step="download the file first",
        )
    try:
        stat = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    key = (str(path), stat.st_mtime_ns, stat.st_size)
    dataset = _handles.open.get(key)
    if dataset is None:
        dataset = _handles.open[key] = _open(path)
        if len(_handles.open) > _HANDLES_PER_THREAD:
            _handles.open.popitem(last=False)[1].close()
    _handles.open.move_to_end(key)
    return dataset


def _open(path: Path) -> Any:
    _refuse_foreign(path)
    try:
        dataset = _open_quietly(path)
    except RasterioError as error:
        raise _damaged(path, error) from error
    _refuse_impossible_nodata(path, dataset)
    return dataset


def _refuse_impossible_nodata(path: Path, dataset: Any) -> None:
    """Refuse a nodata value that no pixel can have: GDAL drops it without a word."""
    declared = None if dataset.nodata is not None else image_headers.tiff_nodata(path)
    if declared is not None:
        raise DataError(
            "SEG-D024",
            "no pixel can have the nodata value that the raster declares",
            file=path,
            observed=f"nodata {declared} in bands of {dataset.dtypes[0]}",
            allowed=f"a value of {dataset.dtypes[0]}, or none",
            next_step="give it another with `gdal_edit.py -a_nodata VALUE`, or none with "
            "`gdal_edit.py -unsetnodata`",
        )


def _open_quietly(path: Path, mode: str = "r", **profile: Any) -> Any:
    # One at a time: GDAL can lock up when several threads register drivers at once (rasterio issue
    # 3611), and the filters of `warnings` belong to the whole process.
    with _opening, warnings.catch_warnings(), rasterio.Env(**_ENVIRONMENT):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `crs` is None: callers decide
        return rasterio.open(path, mode, driver="GTiff", **profile)


def _refuse_foreign(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise _unreadable(path, error) from None
    content = image_headers.content_name(head) if head else "nothing (0 bytes)"
    if content != "TIFF":
        code = "SEG-D030" if content == "VRT" else "SEG-D012" if head else "SEG-D013"
        raise DataError(
            code,
            "the file is not a GeoTIFF",
            file=path,
            observed=f"content is {content}, not GTiff",
            allowed="GTiff",
            next_step="convert the file to GeoTIFF, e.g. `gdal_translate -of GTiff`",
        )


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        "SEG-D013",
        "cannot read the file",
        file=path,
        observed=error.strerror,
        next_step="check that the file is there and that you may read it",
    )


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "SEG-D011",
        "the raster file is truncated or damaged",
        file=path,
        observed=f"{error.__cause__ or error} ({path.stat().st_size} bytes)",
        next_step="copy or export the file again",
    )
