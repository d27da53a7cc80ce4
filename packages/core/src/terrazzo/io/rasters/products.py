"""A Sentinel-2 product as one raster: its bands at one resolution."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from terrazzo.base.errors import DataError
from terrazzo.io import sentinel2
from terrazzo.io.raster_formats import VRT, PermittedPath
from terrazzo.io.rasters import drivers, handles, microscopes, virtual
from terrazzo.io.rasters.grids import require_same_grid
from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.remote_paths import RemotePath
from terrazzo.io.sentinel2 import BandFile

_MOST_BLOCKS = 384 << 20  # bytes: twelve bands of Sentinel-2 at their own resolutions take 340 MB


def info(path: Path, *, alpha: str | None = None) -> RasterInfo:
    """Read the header of a raster; a product is one at the finest resolution of its bands.

    Args:
        path: a raster, or the folder of a Sentinel-2 product.
        alpha: see `handles.handle`.

    Raises:
        DataError: as `handles.info` and `sentinel2.product`.
    """
    if not isinstance(path, RemotePath) and sentinel2.is_product(path):
        return product_info(path)
    return handles.info(path, alpha=alpha)


def product_info(path: Path, resolution: int | None = None) -> RasterInfo:
    """Return what a product at one resolution would say of itself as one raster.

    Its bands are those of reflectance and then, of level 2A, the scene classification, which is
    read only where it is asked for by name.

    Args:
        path: the folder.
        resolution: metres of a pixel; None: the finest of its spectral bands.

    Raises:
        DataError: as `info`.
    """
    product = sentinel2.product(path)
    wanted = resolution or product.finest()
    there = (file for file in product.files if file.resolution == wanted and file.path.is_file())
    on_grid = next(there, product.any_file)
    found = handles.info_of(handles.handle(on_grid.path, None, on_grid.declared))
    declared = [product.native(name).declared for name in product.band_names]
    return replace(
        found if on_grid.resolution == wanted else _at(found, wanted),
        band_names=product.band_names,
        scaling=tuple((each.scale, each.offset) for each in declared),
        by_name_only=tuple(
            at for at, name in enumerate(product.band_names) if name == sentinel2.CLASSES
        ),
    )


def grid_for(path: Path, names: Collection[str], resolution: int | None = None) -> RasterInfo:
    """Return the header of a raster for some of its bands.

    Args:
        path: a raster or a product.
        names: of the bands in use; none: all.
        resolution: of a product, metres; None: the finest of the bands in use.

    Raises:
        DataError: as `info`; SEG-D099 a file of one of the bands is not in the product.
    """
    if isinstance(path, RemotePath) or not sentinel2.is_product(path):
        return info(path)
    product = sentinel2.product(path)
    wanted = resolution or product.finest(names)
    used = [name for name in product.band_names if name in names]
    product.require(used if names else product.spectral, wanted)
    return product_info(path, wanted)


def info_near(path: Path, found: RasterInfo, grid: RasterInfo) -> RasterInfo:
    """Return the header of a product at the resolution nearest to a grid, or of a file as found."""
    if isinstance(path, RemotePath) or not sentinel2.is_product(path):
        return found
    return product_info(path, resolution_of(grid))


def grid_to_reach(path: Path, found: RasterInfo, grid: RasterInfo) -> RasterInfo | None:
    """Return the grid for a raster that lies there at one of its resolutions; None: its own.

    Args:
        path: a raster or a product.
        found: its header, of a product at the finest resolution.
        grid: that it is read on.
    """
    if isinstance(path, RemotePath) or not sentinel2.is_product(path):
        return None
    return None if (found.rows, found.columns) == (grid.rows, grid.columns) else grid


def info_of_size(path: Path, rows: int, columns: int) -> RasterInfo | None:
    """Return the grid of a product that has so many pixels; None: its finest, or no product."""
    if isinstance(path, RemotePath) or not sentinel2.is_product(path):
        return None
    found = (product_info(path, resolution) for resolution in sentinel2.RESOLUTIONS)
    at = next((each for each in found if (each.rows, each.columns) == (rows, columns)), None)
    return None if at is None or at == product_info(path) else at


def resolution_of(grid: RasterInfo) -> int:
    """Return the resolution of a product that is nearest to the pixels of a grid."""
    side = grid.pixel_size[0]
    return min(sentinel2.RESOLUTIONS, key=lambda each: abs(each - side))


def onto_grid(file: BandFile, grid: RasterInfo) -> RasterInfo | None:
    """Return the grid that a file of a product must be brought onto; None: it lies there."""
    found = handles.info_of(handles.handle(file.path, None, file.declared))
    try:
        require_same_grid(file.path, grid, file.path, found)
    except DataError:
        return grid
    return None


def files_behind(path: Path) -> tuple[Path, ...]:
    """Return all files on which the pixels of a raster depend, itself among them.

    Raises:
        DataError: as `info`.
    """
    if isinstance(path, RemotePath):
        return (path,)
    if sentinel2.is_product(path):
        product = sentinel2.product(path)
        return (product.metadata, *(file.path for file in product.files if file.path.is_file()))
    if not isinstance(path, PermittedPath) or microscopes.kind_of(path) is not None:
        return (path,)
    driver = drivers.driver_of(path, handles.first_bytes(path))
    if driver == VRT:
        return (path, *virtual.files_behind(path))
    if driver in (drivers.ENVI, drivers.HFA):
        return tuple(map(Path, handles.handle(path).dataset.files))
    return (path,)


def other_files(path: Path) -> tuple[Path, ...]:
    """Return the files that a raster depends on besides those of its bands.

    Raises:
        DataError: as `info`.
    """
    if not isinstance(path, RemotePath) and sentinel2.is_product(path):
        return (sentinel2.product(path).metadata,)
    return tuple(file for file in files_behind(path) if file != path)


def needs_permission(path: Path) -> bool:
    """Tell whether a raster is of a format that is read only where a person asked for it.

    Raises:
        DataError: as `info`.
    """
    if not isinstance(path, PermittedPath) or sentinel2.is_product(path):
        return False
    if microscopes.kind_of(path) is not None:
        return False
    return drivers.driver_of(path, handles.first_bytes(path)) not in (drivers.TIFF, drivers.JP2)


def band_files(path: Path, bands: Collection[int], grid: RasterInfo) -> tuple[Path, ...]:
    """Return the files that hold some bands of a raster on a grid, without metadata."""
    if isinstance(path, RemotePath) or not sentinel2.is_product(path):
        return (path,)
    product = sentinel2.product(path)
    resolution = resolution_of(grid)
    return tuple(product.at(product.band_names[band], resolution).path for band in bands)


def blocks_kept(bands_of: Iterable[tuple[Path, Collection[int]]], grid: RasterInfo) -> int:
    """Return the bytes of blocks that should be kept while rasters are read from top to bottom.

    Blocks of JPEG 2000 are high (1024 rows in Sentinel-2) and take long to decode: two rows of them
    in every band, up to a limit, so that the next rows of tiles find them.

    Args:
        bands_of: rasters and products, each with the positions of the bands that are read.
        grid: that they are read on.
    """
    files = [
        file
        for path, bands in bands_of
        if not isinstance(path, RemotePath)
        for file in band_files(path, bands, grid)
    ]
    needed = 0
    for file in dict.fromkeys(files):
        opened = handles.handle(file)
        if opened.driver == drivers.JP2:
            dataset, (rows, columns) = opened.dataset, opened.block
            across = -(-dataset.width // columns) * columns
            pixel = np.dtype(dataset.dtypes[0]).itemsize * dataset.count
            needed += 2 * min(rows, dataset.height) * across * pixel
    return min(needed, _MOST_BLOCKS)


def _at(found: RasterInfo, resolution: int) -> RasterInfo:
    """Return the grid of a product at a resolution of which it has no file."""
    times = resolution / found.pixel_size[0]
    t = found.transform
    return replace(
        found,
        rows=round(found.rows / times),
        columns=round(found.columns / times),
        transform=type(t)(t.a * times, t.b, t.c, t.d, t.e * times, t.f),
    )
