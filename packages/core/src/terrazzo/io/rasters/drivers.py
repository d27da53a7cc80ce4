"""Which of GDAL's drivers opens a file: an allow list, by the content of the file.

A driver is named on opening, so no content can choose another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from terrazzo.base.errors import DataError
from terrazzo.io import image_headers, sentinel2
from terrazzo.io.image_headers import CutShortError, DamagedError
from terrazzo.io.raster_formats import VRT, PermittedPath
from terrazzo.io.remote_paths import MemoryPath

TIFF, JP2, ENVI, HFA = "GTiff", "JP2OpenJPEG", "ENVI", "HFA"
_OF_CONTENT = {"TIFF": TIFF, "JPEG 2000": JP2}
_MOST_HEADER = 1 << 16  # bytes of an ENVI header that are looked at


def driver_of(path: Path, head: bytes) -> str:
    """Return the driver that may open a file.

    Args:
        path: the file.
        head: its first bytes.

    Raises:
        DataError: SEG-D012 another format; SEG-D013 empty; SEG-D030 a VRT that nobody allowed;
            SEG-D099 a zipped Sentinel-2 product.
    """
    content = image_headers.content_name(head) if head else "nothing (0 bytes)"
    if content == "TIFF":
        return TIFF
    permitted = path.formats if isinstance(path, PermittedPath) else frozenset()
    if content in permitted and content in (VRT, HFA):
        return content
    if ENVI in permitted and envi_header(path) is not None:
        return ENVI
    if content in _OF_CONTENT and not isinstance(path, MemoryPath):
        return _OF_CONTENT[content]
    raise _refused(path, content, head)


def envi_header(path: Path) -> Path | None:
    """Return the header beside a file of ENVI; None: it has none."""
    for beside in (path.with_name(f"{path.name}.hdr"), path.with_suffix(".hdr")):
        try:
            with Path(str(beside)).open("rb") as file:
                if file.read(4) == b"ENVI":
                    return Path(str(beside))
        except OSError:
            continue
    return None


def require_whole(path: Path, driver: str) -> None:
    """Refuse a file of which GDAL would read less than it says it holds.

    Raises:
        DataError: SEG-D011.
    """
    if driver != JP2:
        return
    try:
        image_headers.require_whole_jp2(path)
    except CutShortError:
        reason = "it ends before its end mark"
    except DamagedError as error:
        reason = str(error)
    else:
        return
    raise DataError(
        "SEG-D011",
        "the file is truncated or damaged",
        file=path,
        observed=f"{reason} ({path.stat().st_size} bytes)",
        next_step="copy or export the file again",
    )


def refuse_files_elsewhere(path: Path, dataset: Any) -> None:
    """Refuse a file of ENVI or HFA that has its pixels, or more, in another folder.

    Raises:
        DataError: SEG-D100.
    """
    folder = Path(str(path)).resolve().parent
    for name in dataset.files:
        if Path(name).resolve().parent != folder:
            raise DataError(
                "SEG-D100",
                "the raster leads to a file in another folder",
                file=path,
                observed=str(name),
                allowed=f"files in {folder}",
                next_step="write it as one file, e.g. `gdal_translate -of GTiff`",
            )


def _refused(path: Path, content: str, head: bytes) -> DataError:
    if not head:
        code = "SEG-D013"
    elif content == VRT:
        code = "SEG-D030"
    elif sentinel2.is_zipped(path):
        return sentinel2.refused_zip(path)
    else:
        code = "SEG-D012"
    ways = {
        VRT: "; or allow it, if you trust it: allow_vrt = true in data.options, --allow-vrt",
        HFA: '; or allow it: formats = ["HFA"] in data.options, --formats HFA',
    }
    return DataError(
        code,
        "the file is not a GeoTIFF, and of no other format that is read",
        file=path,
        observed=f"content is {content}, not GTiff",
        allowed="GTiff, JPEG 2000, Sentinel-2 ….SAFE folders; where allowed VRT, ENVI and HFA",
        next_step="convert the file to GeoTIFF, e.g. `gdal_translate -of GTiff`"
        + ways.get(content, ""),
    )
