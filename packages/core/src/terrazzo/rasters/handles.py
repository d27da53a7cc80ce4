"""GDAL's handles: how files are opened, which are refused, and what its errors become.

Every file is opened by the GTiff driver alone, after its first bytes were seen to be TIFF: GDAL
left to choose follows a VRT that calls itself ``.tif`` to any file of the machine or the network.
Sidecars (``.aux.xml``, ``.tfw``, ``.ovr``, ``.msk``) are not looked for; they can change what a
pixel means without the file itself changing.

GDAL handles must not be shared between threads, so each thread keeps a few of its own.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from terrazzo import image_headers
from terrazzo.errors import DataError
from terrazzo.remote import RemotePath, is_remote

ENVIRONMENT = {
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "3",
}
_CACHE_BYTES = 64 << 20
"""GDAL's own cache would grow to a twentieth of the memory; nothing here is read twice."""
_HANDLES_PER_THREAD = 8  # 16 threads then stay far below the usual 1024 open files


class _Handles(threading.local):
    def __init__(self) -> None:
        self.open: OrderedDict[tuple[str, int, int], Any] = OrderedDict()


_handles = _Handles()
_opening = threading.Lock()


def handle(path: Path) -> Any:
    """Return this thread's own open data set; opened anew if the file has changed."""
    key = _key(path)
    dataset = _handles.open.get(key)
    if dataset is None:
        dataset = _handles.open[key] = _open(path)
        if len(_handles.open) > _HANDLES_PER_THREAD:
            _handles.open.popitem(last=False)[1].close()
    _handles.open.move_to_end(key)
    return dataset


def _key(path: Path) -> tuple[str, int, int]:
    """Return what tells whether an open file is still the same."""
    if isinstance(path, RemotePath):
        return path.gdal_name, 0, 0
    if is_remote(path):
        raise DataError(
            "SEG-D030",
            "remote and virtual paths are not read",
            file=path,
            observed=str(path),
            allowed="a GeoTIFF file on this machine",
            next_step="download the file first; `terrazzo predict` reads it with --allow-remote",
        )
    try:
        stat = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    return str(path), stat.st_mtime_ns, stat.st_size


def _open(path: Path) -> Any:
    remote = isinstance(path, RemotePath)
    if not remote:
        _refuse_foreign(path)
    try:
        dataset = open_quietly(path.gdal_name if isinstance(path, RemotePath) else path)
    except RasterioError as error:
        raise _damaged(path, error) from error
    if not remote:
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


def open_quietly(path: Path | str, mode: str = "r", **profile: Any) -> Any:
    """Open a file by the GTiff driver alone, without rasterio's warnings."""
    # One at a time: GDAL can lock up when several threads register drivers at once (rasterio issue
    # 3611), and the filters of `warnings` belong to the whole process.
    with _opening, warnings.catch_warnings(), rasterio.Env(**ENVIRONMENT):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `crs` is None: callers decide
        return rasterio.open(path, mode, driver="GTiff", **profile)


def _refuse_foreign(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise unreadable(path, error) from None
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


def unreadable(path: Path, error: OSError) -> DataError:
    """Compose the error for a file that the system does not hand out."""
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
        observed=f"{error.__cause__ or error}"
        + (f" ({path.stat().st_size} bytes)" if path.is_file() else ""),
        next_step="copy or export the file again",
    )


@contextmanager
def gdal_errors(path: Path) -> Iterator[None]:
    """Turn what GDAL says while a file is read into an error about that file."""
    try:
        with rasterio.Env(**ENVIRONMENT):
            yield
    except RasterioError as error:
        raise _damaged(path, error) from error


def small_cache() -> Any:
    """Return a context in which GDAL's cache of blocks is small: all is read once there.

    GDAL asks for the limit when it first caches a block, and then keeps it for the process.
    """
    return rasterio.Env(**ENVIRONMENT, GDAL_CACHEMAX=_CACHE_BYTES)
