"""GeoTIFF files written, and read back."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from terrazzo.base.atomic_write import replacing
from terrazzo.base.disk_errors import not_written
from terrazzo.base.errors import ResourceError, TerrazzoError
from terrazzo.io.rasters.class_table import ClassTable
from terrazzo.io.rasters.handles import ENVIRONMENT, open_quietly, small_cache
from terrazzo.io.rasters.header import RasterInfo

BLOCK = 256
"""Rows and columns of the blocks of written files."""

_ZLEVEL = 5
"""Of deflate: a map takes a third of the time of level 6, and a tenth more room (measured)."""


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
        crs: anything rasterio takes, e.g. ``"EPSG:32633"``; None for an image without a place.
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
    with (
        replacing(path, needed_bytes=image_HWC.nbytes) as temporary,
        _gdal_writes(path),
        rasterio.Env(**ENVIRONMENT),
    ):
        with open_quietly(temporary, "w", **profile) as dataset:
            dataset.write(bands_CHW)
            if band_names is not None:
                dataset.descriptions = band_names
        # GDAL does not report every failed write when it closes a file, so look.
        with open_quietly(temporary) as dataset:
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
    classes: ClassTable | None = None,
    scaling: tuple[float, float] | None = None,
    tags: Mapping[str, str],
    cloud_optimised: bool = False,
) -> None:
    """Write a GeoTIFF on the grid of another one, some rows at a time; then read it back.

    Overviews hold the commonest class of what lies below each of their pixels, or the mean of
    numbers. The bytes depend on nothing but the arguments, and not on how the rows are grouped:
    whole tiles are written, since one that is compressed again leaves a hole in the file. Nothing
    is renamed here: use a temporary path.

    Args:
        path: where to; replaced if it is there.
        like: gives size, CRS and transform.
        groups: C×R×W from the first row to the last, of any R; copied unless it is a multiple of
            `BLOCK`.
        dtype: of the pixels.
        nodata: value of pixels without data.
        band_names: C names.
        classes: what the one band of class ids means; a palette of uint8 is made of it, too.
        scaling: scale and offset by which numbers in the file become a quantity; None: they are it.
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
        "zlevel": _ZLEVEL,
        "num_threads": "all_cpus",  # the bytes are the same for any number
    }
    sums = []
    with _gdal_writes(path):
        path.unlink(missing_ok=True)  # GDAL would open it first, and refuses half a file
        with small_cache(), open_quietly(path, "w", **profile) as dataset:
            dataset.descriptions = band_names
            dataset.update_tags(**tags, **resolution_tags(like))
            if scaling is not None:
                dataset.scales, dataset.offsets = ((each,) * dataset.count for each in scaling)
            if classes is not None:
                dataset.update_tags(1, **classes.place_holder)
                if dtype == "uint8":
                    dataset.write_colormap(1, classes.palette)
            row = 0
            for group_CHW in _of_whole_tiles(groups):
                rows = group_CHW.shape[1]
                group_CHW = np.ascontiguousarray(group_CHW)
                dataset.write(group_CHW, window=Window(0, row, like.columns, rows))
                sums.append((rows, zlib.crc32(group_CHW.data)))
                row += rows
        assert row == like.rows
        if cloud_optimised:
            _make_cloud_optimised(path, "AVERAGE" if classes is None else "MODE")
        _refuse_unlike(path, sums)
        if classes is not None and not classes.put_into(path):
            raise _other_than_written(path, "no place for the table of classes")


def resolution_tags(like: RasterInfo) -> dict[str, str]:
    """Return the TIFF tags by which ImageJ notes the physical size of a pixel, in micrometres.

    QuPath and Bio-Formats read them as well. Nothing for a raster whose pixels have none, or lie
    on the ground.
    """
    if like.physical_sides is None or like.crs is not None or like.has_place:
        return {}
    across, down = (1e-6 / side for side in like.physical_sides)
    return {
        "TIFFTAG_IMAGEDESCRIPTION": "ImageJ=1.54f\nunit=micron\n",
        "TIFFTAG_XRESOLUTION": f"{across:.9g}",
        "TIFFTAG_YRESOLUTION": f"{down:.9g}",
        "TIFFTAG_RESOLUTIONUNIT": "1",
    }


def _of_whole_tiles(groups: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield C×R×W with R a multiple of `BLOCK` but for the last."""
    waiting: list[NDArray[Any]] = []
    for group_CRW in groups:
        waiting.append(group_CRW)
        together = sum(each.shape[1] for each in waiting)
        if together >= BLOCK:
            joined_CRW = waiting[0] if len(waiting) == 1 else np.concatenate(waiting, axis=1)
            whole = together // BLOCK * BLOCK
            yield joined_CRW[:, :whole]
            waiting = [joined_CRW[:, whole:]] if whole < together else []
    if waiting:
        yield np.concatenate(waiting, axis=1)


@contextmanager
def _gdal_writes(path: Path) -> Iterator[None]:
    """Turn what GDAL says while a file is written, or read back, into an error about that file."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        if isinstance(error, TerrazzoError):
            raise
        # GDAL has no numbers for what a disk refuses, and its reason is the innermost error.
        reason = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise not_written(
            path,
            reason if isinstance(reason, Exception) else error,
            problem="the raster could not be written",
            then="then run the same command again (--resume goes on with a scene)",
        ) from error


def _make_cloud_optimised(path: Path, overviews: str) -> None:
    plain = path.with_suffix(".plain.tif")
    path.rename(plain)
    try:
        rasterio.shutil.copy(
            plain,
            path,
            driver="COG",
            COMPRESS="DEFLATE",
            BLOCKSIZE=512,
            OVERVIEW_RESAMPLING=overviews,  # GDAL left to choose blends the ids of classes
            BIGTIFF="IF_SAFER",
            LEVEL=_ZLEVEL,
            NUM_THREADS="ALL_CPUS",
        )
    finally:
        plain.unlink()


def _refuse_unlike(path: Path, sums: list[tuple[int, int]]) -> None:
    """GDAL does not report every failed write when it closes a file, so look."""
    with small_cache(), open_quietly(path, num_threads="all_cpus") as dataset:
        row = 0
        for rows, expected in sums:
            values_CHW = dataset.read(window=Window(0, row, dataset.width, rows))
            if zlib.crc32(np.ascontiguousarray(values_CHW).data) != expected:
                raise _other_than_written(path, f"rows {row}…{row + rows - 1} differ")
            row += rows


def _other_than_written(path: Path, observed: str) -> ResourceError:
    return not_written(
        path,
        ValueError(observed),  # most often for want of space, which GDAL did not tell
        problem="the raster could not be read back as it was written",
        then="then run the same command again (--resume goes on with a scene)",
    )
