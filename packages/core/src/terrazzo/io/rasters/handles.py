"""GDAL's handles: how files are opened, which are refused, and what its errors become.

Every file is opened by one driver of an allow list, told by its first bytes (`drivers`): GDAL left
to choose follows a VRT that calls itself ``.tif`` to any file of the machine or the network.
Sidecars (``.aux.xml``, ``.tfw``, ``.ovr``, ``.msk``) are not looked for; they can change what a
pixel means without the file itself changing.

GDAL handles must not be shared between threads, so each thread keeps a few of its own; nor between
a process and its forks, which begin with none.
"""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Interleaving, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT

from terrazzo.base.errors import DataError, ResourceError
from terrazzo.base.memory import host_ran_out, out_of_memory
from terrazzo.base.reading import now_reading
from terrazzo.io import image_headers, sentinel2
from terrazzo.io.microscopy import notes as microscopy
from terrazzo.io.microscopy import planes
from terrazzo.io.microscopy.image import MicroscopeImage, UnknownPlanesError
from terrazzo.io.raster_formats import VRT, PermittedPath
from terrazzo.io.rasters import drivers, microscopes, tiff_kinds, virtual
from terrazzo.io.rasters.header import IMAGE_DTYPES, RasterInfo
from terrazzo.io.remote_paths import MemoryPath, RemotePath, is_remote
from terrazzo.io.sentinel2 import Declared
from terrazzo.io.special_files import refuse_special

ENVIRONMENT = {
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "3",
}
_ONE_THREAD = {"GDAL_NUM_THREADS": "1"}
"""Of JPEG 2000: several threads of GDAL hand out a tile that cannot be decoded as 0, and say so
nowhere but on standard error."""
_ENVI_ENVIRONMENT = {**ENVIRONMENT, "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
"""The header of ENVI is a file beside the pixels."""
_COLOURS = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}
_CACHE_BYTES = 32 << 20
"""GDAL's own cache would grow to a twentieth of the memory; nothing here is read twice."""
_HANDLES_PER_THREAD = 24  # a file for each band; 16 threads stay below the usual 1024 open files
_MISSING_CODEC = re.compile(r"missing codec (?:for )?(.+?)\.?$", re.MULTILINE)
_WARP_TOLERANCE = 1e-3  # pixels by which GDAL may approximate the way between two CRS


@dataclass(eq=False)
class Handle:
    """A file that one thread has open, and what every window asks of its header.

    Attributes:
        path: the file.
        dataset: the rasterio data set.
        image_bands: numbers of the bands that are no alpha band, from 1.
        alpha_bands: numbers of the others.
        nodata: value of pixels without data, or None.
        has_inner_mask: whether a mask inside the file says which pixels count.
        block: rows and columns of the blocks the file is made of.
        stored_bands: numbers of the bands that have blocks of their own.
        palette_PC: colours behind the indices of an image; None: its numbers are what they are.
        white_is_zero: whether the file calls 0 white.
        physical_sides: see `RasterInfo`.
        channel_names: that OME gives the bands; empty: none.
        scaling: scale and offset of every band of the file.
        driver: of GDAL, which opened it.
        declared: what a product says of the file in its place; None: it is none of a product.
        sources: rasters that a VRT leads to.
        source_stamps: what they were when it was opened.
        memory: what is freed with it.
        written: bands and blocks that are known to be in the file.
        warped: the file on other grids.
    """

    path: Path
    dataset: Any
    image_bands: tuple[int, ...]
    alpha_bands: tuple[int, ...]
    nodata: float | None
    has_inner_mask: bool
    block: tuple[int, int]
    stored_bands: tuple[int, ...]
    palette_PC: NDArray[np.uint8] | None = None
    white_is_zero: bool = False
    physical_sides: tuple[float, float] | None = None
    channel_names: tuple[str, ...] = ()
    scaling: tuple[tuple[float, float], ...] = ()
    driver: str = drivers.TIFF
    declared: Declared | None = None
    sources: tuple[Path, ...] = ()
    source_stamps: tuple[tuple[int, int], ...] = ()
    memory: ExitStack = field(default_factory=ExitStack)
    written: set[tuple[int, int, int]] = field(default_factory=set)
    warped: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    @property
    def warps_with_alpha(self) -> bool:
        """Whether the file on another grid says by an alpha band at its end where it has pixels.

        Otherwise by its nodata value, band by band.
        """
        return self.nodata is None or bool(self.alpha_bands)

    def onto(self, grid: RasterInfo, resampling: Resampling) -> Any:
        """Return the file on another grid, as a data set; see `warps_with_alpha`.

        Raises:
            DataError: SEG-D027 a band with a name is marked as alpha, which GDAL would follow.
        """
        if not self.alpha_bands and ColorInterp.alpha in self.dataset.colorinterp:
            raise DataError(
                "SEG-D027",
                "a band that is marked as alpha and has a name cannot be brought onto another grid",
                file=self.path,
                observed=f"band {self.dataset.colorinterp.index(ColorInterp.alpha) + 1}",
                next_step="unmark it, e.g. `rio edit-info --colorinterp 4=undefined`, or take away "
                "its name if it is alpha",
            )
        of_product = {"src_nodata": self.nodata, "nodata": self.nodata}
        return self._warped(
            grid,
            resampling,
            **({} if self.declared is None else of_product),
            add_alpha=self.warps_with_alpha and not self.alpha_bands,
            # rasterio's own YES would average one band's nodata value into its neighbours
            # wherever the other bands have data.
            UNIFIED_SRC_NODATA="PARTIAL",
        )

    def place_on(self, grid: RasterInfo) -> Any:
        """Return the file on another grid, with an alpha band at its end that tells where it lies.

        Its nodata value is an ordinary one there.
        """
        return self._warped(grid, Resampling.nearest, add_alpha=True, src_nodata=None, nodata=None)

    def _warped(self, grid: RasterInfo, resampling: Resampling, **settings: Any) -> Any:
        place = (grid.crs, grid.transform, grid.columns, grid.rows)
        key = (grid.crs.to_wkt(), *place[1:], resampling, *settings)
        if key not in self.warped:
            self.warped[key] = WarpedVRT(
                self.dataset,
                **dict(zip(("crs", "transform", "width", "height"), place, strict=True)),
                resampling=resampling,
                tolerance=_WARP_TOLERANCE,
                **settings,
            )
        return self.warped[key]

    def close(self) -> None:
        """Close the file and what hangs on it."""
        for warped in self.warped.values():
            warped.close()
        self.dataset.close()
        self.memory.close()

    @property
    def has_blocks_of_tiff(self) -> bool:
        """Whether the file tells which of its blocks were written."""
        return self.driver == drivers.TIFF

    def reading(self) -> AbstractContextManager[None]:
        """Return the context in which pixels are read; see `gdal_errors`."""
        settings = {drivers.JP2: _ONE_THREAD, VRT: {**ENVIRONMENT, **_ONE_THREAD}}
        return gdal_errors(self.path, settings.get(self.driver))


class _Handles(threading.local):
    def __init__(self) -> None:
        self.open: OrderedDict[tuple[Any, ...], Handle] = OrderedDict()


_handles = _Handles()
opening = threading.Lock()
"""Held where `warnings` is told what to leave out, here or in rasterio: all threads share that."""
_inherited: list[Any] = []


def _begin_anew() -> None:
    # Not closed: that might wait for a lock of a thread that the fork left behind.
    _inherited.append(_handles.open)
    _handles.open = OrderedDict()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_begin_anew)

with rasterio.Env(**ENVIRONMENT):
    pass  # registers the drivers here, on the thread that imports; see `open_quietly`


def info(path: Path, *, alpha: str | None = None) -> RasterInfo:
    """Read the header of a GeoTIFF.

    Args:
        path: a GeoTIFF file.
        alpha: see `handle`.

    Raises:
        DataError: SEG-D010 to be turned on display; SEG-D011 damaged; SEG-D012 of a format that is
            not read, or of a codec that is missing; SEG-D013 missing, empty or unreadable; SEG-D041
            several planes; SEG-D024 an impossible nodata value; SEG-D030 a VRT or a remote path;
            SEG-D098 an allowed VRT of which something is not read; SEG-D100 ENVI or HFA that leads
            to another folder; SEG-D108 a transform that gives pixels no area.
    """
    return info_of(handle(path, alpha))


def info_of(opened: Handle) -> RasterInfo:
    """Return the header of a raster that is open."""
    dataset = opened.dataset
    stored = dataset.dtypes[0]
    return RasterInfo(
        dataset.height,
        dataset.width,
        _band_names(opened),
        _dtype_of_images(opened),
        opened.nodata,
        dataset.crs,
        dataset.transform,
        stored,
        opened.white_is_zero,
        _scaling(opened),
        opened.alpha_bands,
        opened.physical_sides,
    )


def block_shape(path: Path) -> tuple[int, int]:
    """Return rows and columns of the blocks that a GeoTIFF is made of, and is decoded by.

    Raises:
        DataError: as `info`.
    """
    return handle(path).block


def has_palette(path: Path) -> bool:
    """Tell whether the numbers of a GeoTIFF stand for the colours of a palette.

    Raises:
        DataError: as `info`.
    """
    return handle(path).palette_PC is not None


def names_channels(path: Path) -> bool:
    """Tell whether a raster is of a microscope that names its channels.

    Raises:
        DataError: as `info`.
    """
    return bool(handle(path).channel_names)


def tags(path: Path) -> dict[str, str]:
    """Return the words about the file that a GeoTIFF holds, by their names.

    Raises:
        DataError: as `info`.
    """
    return dict(handle(path).dataset.tags())


def _scaling(opened: Handle) -> tuple[tuple[float, float], ...]:
    if opened.palette_PC is not None:
        return ((1.0, 0.0),) * len(tiff_kinds.PALETTE_BANDS)
    return tuple(opened.scaling[n - 1] for n in opened.image_bands)


def _dtype_of_images(opened: Handle) -> str:
    stored = str(opened.dataset.dtypes[0])
    if opened.palette_PC is not None:
        return "uint8"
    return stored if stored in IMAGE_DTYPES or stored.startswith("complex") else "float32"


def _band_names(opened: Handle) -> tuple[str, ...]:
    """Return the names in the file; where it has none, the colours it says its bands are."""
    if opened.palette_PC is not None:
        return tiff_kinds.PALETTE_BANDS
    dataset, numbers = opened.dataset, opened.image_bands
    if opened.declared is not None:
        return (opened.declared.name,)
    if opened.channel_names:
        return opened.channel_names
    # Each asks every band of the file, so once: thousands of bands would take minutes.
    descriptions, kinds = dataset.descriptions, dataset.colorinterp
    told = [descriptions[number - 1] for number in numbers]
    colours = [_COLOURS.get(kinds[number - 1]) for number in numbers]
    if not any(told) and all(colours.count(colour) == 1 for colour in _COLOURS.values()):
        told = colours
    return tuple(name or f"band {number}" for name, number in zip(told, numbers, strict=True))


def handle(path: Path, alpha: str | None = None, declared: Declared | None = None) -> Handle:
    """Return this thread's own handle; opened anew if the file has changed.

    Args:
        path: a raster. A folder of Sentinel-2 stands for one of its files here.
        declared: what a product says of the file in its place.
        alpha: ``none``: no band says which pixels count; ``band 4``: that one does, where the file
            has it; None: one that the file marks as alpha and does not name.

    Raises:
        DataError: as `info`.
    """
    if declared is None and not isinstance(path, RemotePath) and sentinel2.is_product(path):
        path, _, declared = sentinel2.product(path).any_file
    key = (*_key(path), alpha, declared)
    found = _handles.open.get(key)
    if found is not None and found.sources and _stamps(found.sources) != found.source_stamps:
        _handles.open.pop(key).close()
        found = None
    if found is None:
        found = _handles.open[key] = _open(path, alpha, declared)
        if len(_handles.open) > _HANDLES_PER_THREAD:
            _handles.open.popitem(last=False)[1].close()
    _handles.open.move_to_end(key)
    return found


def _stamps(sources: tuple[Path, ...]) -> tuple[tuple[int, int], ...]:
    """Return what tells whether sources are still the same; of one that is gone, zeros."""
    stamps = []
    for path in sources:
        try:
            stat = path.stat()
        except OSError:  # opening it anew says what is the matter
            stamps.append((0, 0))
        else:
            stamps.append((stat.st_mtime_ns, stat.st_size))
    return tuple(stamps)


def close(path: Path) -> None:
    """Close what this thread has open of a file."""
    for key in [key for key in _handles.open if key[0] == str(path)]:
        _handles.open.pop(key).close()


def _key(path: Path) -> tuple[Any, ...]:
    """Return what tells whether an open file is still the same."""
    if isinstance(path, RemotePath):
        return path.gdal_name, 0, 0
    refuse_remote(path)
    now_reading(path)
    try:
        stat = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    refuse_special(path, stat.st_mode)
    permission = (path.formats, path.below, path.plane) if isinstance(path, PermittedPath) else ()
    return str(path), stat.st_mtime_ns, stat.st_size, permission


def _open(path: Path, alpha: str | None, declared: Declared | None) -> Handle:
    # All that GDAL looks for beside a file it looks for here: reading needs few settings.
    if isinstance(path, RemotePath):
        with gdal_errors(path), rasterio.Env(**ENVIRONMENT):
            return _look_at(path, open_quietly(path.gdal_name), alpha, drivers.TIFF)
    if (kind := microscopes.kind_of(path)) is not None:
        return _of_microscope(path, microscopes.OPENERS[kind](path))
    driver = drivers.driver_of(path, first_bytes(path))
    drivers.require_whole(path, driver)
    with ExitStack() as memory, gdal_errors(path), rasterio.Env(**ENVIRONMENT):
        name: str = str(path)
        sources: tuple[Path, ...] = ()
        if driver == VRT:
            assert isinstance(path, PermittedPath)
            checked = virtual.checked(path)
            memory.push(checked.memory)
            name, sources = checked.name, checked.sources
        stamps = _stamps(sources)  # before they are opened
        dataset = open_quietly(name, opener=driver)
        if driver == drivers.TIFF and microscopes.is_stack(path, dataset):
            with closing(dataset):
                return _of_stack(path, dataset, alpha)
        opened = _look_at(path, dataset, alpha, driver, declared)
        opened.sources, opened.memory = sources, memory.pop_all()
        opened.source_stamps = stamps
        return opened
    raise AssertionError  # the contexts above swallow nothing


def _of_stack(path: Path, dataset: Any, alpha: str | None) -> Handle:
    """Return the handle of a TIFF of several pages, one plane of which is read."""
    tiff_kinds.refuse_cut(path)
    tiff_kinds.refuse_turned(path)
    try:
        image = microscopes.OPENERS[microscopes.STACK](path)
    except UnknownPlanesError:
        raise tiff_kinds.several_planes(path, dataset) from None
    return _of_microscope(path, image, alpha)


def _of_microscope(path: Path, image: MicroscopeImage, alpha: str | None = None) -> Handle:
    """Return the handle of a file that GDAL does not read, or not all of it."""
    dataset = microscopes.MicroscopeDataset(path, image)
    alpha_bands = image.alpha_bands if alpha is None else _alpha_bands(dataset, alpha)
    numbers = tuple(number for number in dataset.indexes if number not in alpha_bands)
    names = image.band_names
    if len(numbers) != len(names):  # alpha is a band of the model
        names = (*names, *(f"band {number}" for number in numbers[len(names) :]))
    return Handle(
        path,
        dataset,
        numbers,
        alpha_bands,
        None,
        image.read_mask is not None,
        image.block,
        (),
        None,
        image.white_is_zero,
        image.physical_sides,
        names,
        ((1.0, 0.0),) * dataset.count,
        microscopes.DRIVER,
    )


def _look_at(
    path: Path, dataset: Any, alpha: str | None, driver: str, declared: Declared | None = None
) -> Handle:
    tiff_kinds.refuse_several_planes(path, dataset)
    if isinstance(path, PermittedPath) and path.plane:
        planes.choose(path, {})
    if driver == drivers.TIFF and not isinstance(path, RemotePath):
        tiff_kinds.refuse_cut(path)
        tiff_kinds.refuse_turned(path)
        _refuse_impossible_nodata(path, dataset)
    if driver in (drivers.ENVI, drivers.HFA):
        drivers.refuse_files_elsewhere(path, dataset)
    _refuse_flat_grid(path, dataset)
    alpha_bands = _alpha_bands(dataset, alpha)
    if driver in (VRT, drivers.HFA):
        _refuse_unlike_bands(path, dataset, alpha_bands)
    flags = dataset.mask_flag_enums[0]
    return Handle(
        path,
        dataset,
        tuple(number for number in dataset.indexes if number not in alpha_bands),
        alpha_bands,
        dataset.nodata if declared is None else declared.nodata,
        MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
        dataset.block_shapes[0],
        dataset.indexes if dataset.interleaving is Interleaving.band else (1,),
        tiff_kinds.palette_of(dataset),
        tiff_kinds.is_white_zero(dataset),
        microscopy.physical_sides(path, dataset),
        _ome_names(path, dataset, len(dataset.indexes) - len(alpha_bands)),
        tuple(zip(dataset.scales, dataset.offsets, strict=True))
        if declared is None
        else ((declared.scale, declared.offset),) * dataset.count,
        driver,
        declared,
    )


def _ome_names(path: Path, dataset: Any, bands: int) -> tuple[str, ...]:
    """Return the names that OME gives to the bands of one page; empty: none of them."""
    if any(dataset.descriptions):
        return ()
    description = microscopy.description_of(path, dataset)
    if not microscopy.is_ome(description):
        return ()
    microscopy.refuse_other_files(path, description)
    names = microscopy.channel_names(description, bands)
    return names if any(name != f"band {n}" for n, name in enumerate(names, 1)) else ()


def _alpha_bands(dataset: Any, alpha: str | None) -> tuple[int, ...]:
    """Return the numbers of the bands that say which pixels count; see `handle`."""
    if alpha == "none":
        return ()
    if alpha is not None:
        return tuple(number for number in dataset.indexes if alpha == f"band {number}")
    # GDAL takes the fourth of four nameless 8-bit bands for alpha; a band with a name is a band.
    return tuple(
        number
        for number, kind, name in zip(
            dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True
        )
        if kind is ColorInterp.alpha and not name
    )


def _refuse_flat_grid(path: Path, dataset: Any) -> None:
    """Refuse a transform that puts all pixels onto one line or point, or nowhere."""
    transform = dataset.transform
    if transform.determinant != 0 and all(map(math.isfinite, transform[:6])):
        return
    numbers = ", ".join(f"{number:g}" for number in transform[:6])
    raise DataError(
        "SEG-D108",
        "the transform of the raster gives its pixels no area",
        file=path,
        observed=f"({numbers})",
        allowed="a pixel with a width and a height",
        next_step="take it away with `gdal_edit.py -unsetgt`, or write the right one with "
        "`gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM`",
    )


def _refuse_impossible_nodata(path: Path, dataset: Any) -> None:
    """Refuse a nodata value that no pixel can have: GDAL drops it, or takes such pixels for data.

    −9999 in floats of 16 bits is stored as −9992 or −10000, 65535 in 12 bits as 4095.
    """
    dtype, bits = dataset.dtypes[0], dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    bits = 16 if dtype == "float16" else bits and int(bits)
    if dataset.nodata is not None and (not bits or _fits(dataset.nodata, dtype, bits)):
        _refuse_misread_nodata(path, dataset)
        return
    declared = image_headers.tiff_nodata(path)
    if declared is not None:
        raise DataError(
            "SEG-D024",
            "no pixel can have the nodata value that the raster declares",
            file=path,
            observed=f"nodata {declared} in bands of {dtype}" + (f", {bits} bits" if bits else ""),
            allowed=f"a value of {dtype}{f' of {bits} bits' if bits else ''}, or none",
            next_step="give it another with `gdal_edit.py -a_nodata VALUE`, or none with "
            "`gdal_edit.py -unsetnodata`",
        )


def _fits(nodata: float, dtype: str, bits: int) -> bool:
    """Tell whether numbers that are stored in fewer bits than their type has can be a value."""
    if np.dtype(dtype).kind == "u":
        return nodata < 1 << bits
    if np.dtype(dtype).kind != "f" or bits != 16 or not math.isfinite(nodata):
        return True
    return bool(abs(nodata) <= np.finfo(np.float16).max and float(np.float16(nodata)) == nodata)


def _refuse_misread_nodata(path: Path, dataset: Any) -> None:
    """Refuse a nodata value of 64-bit integers that GDAL takes for another one.

    It reads the digits before a point or an exponent alone: 1e+17, as rasterio has it, becomes 1.
    """
    if dataset.dtypes[0] not in ("int64", "uint64"):
        return
    declared = image_headers.tiff_nodata(path)
    try:
        is_misread = declared is not None and float(declared) != dataset.nodata
    except ValueError:
        is_misread = True
    if is_misread:
        raise DataError(
            "SEG-D024",
            "the nodata value of the raster is written in a way that GDAL misreads",
            file=path,
            observed=f"nodata {declared} in bands of {dataset.dtypes[0]}, which GDAL takes for "
            f"{dataset.nodata:g}",
            allowed="a whole number, written without a point or an exponent",
            next_step="write it anew with all its digits, `gdal_edit.py -a_nodata VALUE`",
        )


def _refuse_unlike_bands(path: Path, dataset: Any, alpha_bands: tuple[int, ...]) -> None:
    """Refuse what these formats can hold and others cannot: the first band would stand for all."""
    types, markers = dataset.dtypes, dataset.nodatavals
    kept = [band - 1 for band in dataset.indexes if band not in alpha_bands]
    dtypes = sorted({types[at] for at in kept})
    nodata = sorted({str(markers[at]) for at in kept})
    if len(dtypes) > 1 or len(nodata) > 1:
        raise DataError(
            "SEG-D098",
            "the bands of the raster differ in their type or nodata value",
            file=path,
            observed=f"{', '.join(dtypes)}; nodata {', '.join(nodata)}",
            allowed="one type and one nodata value",
            next_step="name the files of the bands one by one, as the images of a scene",
        )


def open_quietly(
    path: Path | str, mode: str = "r", *, opener: str = drivers.TIFF, **profile: Any
) -> Any:
    """Open a file by one driver alone, without rasterio's warnings."""
    environment = _ENVI_ENVIRONMENT if opener == drivers.ENVI else ENVIRONMENT
    # One at a time: GDAL can lock up when several threads register drivers at once (rasterio issue
    # 3611), and the filters of `warnings` belong to the whole process.
    with opening, warnings.catch_warnings(), rasterio.Env(**environment):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `crs` is None: callers decide
        return rasterio.open(path, mode, driver=opener, **profile)


def refuse_other_than_utf8(path: Path) -> None:
    """Refuse a path that rasterio cannot hand to GDAL.

    Raises:
        DataError: SEG-D033.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "SEG-D033",
            "the path is not in UTF-8, and GDAL takes no other",
            file=path,
            observed=f"the byte {ord(str(path)[error.start]) - 0xDC00:#04x}",
            allowed="names in UTF-8",
            next_step="rename the file or its folder",
        ) from None


@contextmanager
def gdal_errors(path: Path, settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn what GDAL says while a file is read into an error about that file.

    Args:
        path: the file.
        settings: of GDAL while it is read. A VRT opens its sources then; a TIFF on this machine
            needs nothing.
    """
    if isinstance(path, RemotePath):  # reading over the network needs its limits of time
        settings = ENVIRONMENT
    try:
        with nullcontext() if settings is None else rasterio.Env(**settings):
            yield
    except (RasterioError, MemoryError) as error:
        if host_ran_out(error):
            raise no_memory_to_read(path, error) from error
        raise damaged(path, error) from error


def small_cache(more: int = 0) -> Any:
    """Return a context in which GDAL's cache of blocks is small: all is read once there.

    Args:
        more: bytes that it may take beside that; see `products.blocks_kept`.
    """
    return rasterio.Env(**ENVIRONMENT, GDAL_CACHEMAX=_CACHE_BYTES + more)


def refuse_remote(path: Path) -> None:
    """Refuse a path that GDAL would follow to the network or into another file, or cannot take.

    Raises:
        DataError: SEG-D030; as `refuse_other_than_utf8`.
    """
    if isinstance(path, MemoryPath):
        return
    if is_remote(path):
        raise DataError(
            "SEG-D030",
            "remote and virtual paths are not read",
            file=path,
            observed=str(path),
            allowed="a file on this machine",
            next_step="download the file first; `terrazzo predict` reads it with --allow-remote",
        )
    refuse_other_than_utf8(path)


def first_bytes(path: Path) -> bytes:
    """Return up to 100 bytes of a file.

    Raises:
        DataError: SEG-D013.
    """
    now_reading(path)
    try:
        refuse_special(path, path.stat().st_mode)
        with path.open("rb") as file:
            return file.read(100)
    except OSError as error:
        raise unreadable(path, error) from None


def no_memory_to_read(path: Path, error: BaseException) -> ResourceError:
    """Compose the error for a file whose pixels do not fit into memory."""
    return out_of_memory(
        "reading a GeoTIFF",
        error,
        file=path,
        next_step="lower loader.threads and loader.prefetch or augment.crop; for `predict`, --tile "
        "and --workers",
    )


def unreadable(path: Path, error: OSError) -> DataError:
    """Compose the error for a file that the system does not hand out."""
    return DataError(
        "SEG-D013",
        "cannot read the file",
        file=path,
        observed=error.strerror,
        next_step="check that the file is there and that you may read it",
    )


def damaged(path: Path, error: Exception) -> DataError:
    """Compose the error for a file that a library gave up."""
    codec = _MISSING_CODEC.search(f"{error.__cause__ or error}")
    if codec is not None:
        return DataError(
            "SEG-D012",
            "the file is compressed by a codec that the installed GDAL does not have",
            file=path,
            observed=f"compression {codec[1]}",
            allowed="deflate, LZW, ZSTD, LERC, WebP, JPEG or none",
            next_step="write the file again with another compression, e.g. "
            "`gdal_translate -co COMPRESS=DEFLATE` of a GDAL that knows it",
        )
    return DataError(
        "SEG-D011",
        "the file is truncated or damaged",
        file=path,
        observed=f"{error.__cause__ or error}"
        + (f" ({path.stat().st_size} bytes)" if path.is_file() else ""),
        next_step="copy or export the file again",
    )
