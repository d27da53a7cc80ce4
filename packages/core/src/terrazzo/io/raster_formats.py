"""Which raster formats are read: an allow list, and what a person may add to it for a file.

GeoTIFF, JPEG 2000 and Sentinel-2 folders (`io.sentinel2`) are read everywhere. ENVI and HFA have
files beside them, and a VRT is a list of other files: they are read where the path itself says
that a person asked for them, so that the permission goes wherever the path goes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, Literal

from terrazzo.base.errors import ConfigError
from terrazzo.io import image_headers, sentinel2
from terrazzo.io.header_types import SUFFIXES as _IMAGES
from terrazzo.io.remote_paths import RemotePath

TIFF_SUFFIXES = (".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".dicom")
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide")
"""Whole slides, as OpenSlide opens them; a slide that is named ``.tif`` is read as TIFF."""
ZARR_SUFFIX = ".zarr"
"""OME-Zarr: a folder that is one image."""
RASTER_SUFFIXES = (
    *TIFF_SUFFIXES,
    ".btf",
    ".tf8",
    ".jp2",
    *DICOM_SUFFIXES,
    *SLIDE_SUFFIXES,
    ZARR_SUFFIX,
)
_ON_REQUEST = (".vrt", ".img")
"""Rasters too, so that those who refuse them without permission say how to give it."""

OptIn = Literal["ENVI", "HFA"]
OPT_IN: tuple[OptIn, ...] = ("ENVI", "HFA")
VRT = "VRT"
_READ_EVERYWHERE = ("TIFF", "JPEG 2000")
"""As `image_headers.content_name` has them."""

_Path = WindowsPath if os.name == "nt" else PosixPath


PLANE_AXES = ("z", "t", "frame", "series")
"""Depth, time, frame of DICOM, and image of a file that holds several."""

Plane = tuple[tuple[str, int], ...]
"""Positions on axes, from 0."""


class PermittedPath(_Path):  # type: ignore[misc, valid-type]
    """A path of a raster that a person allowed more formats for; made by `permit`."""

    formats: frozenset[str] = frozenset()
    below: Path | None = None
    """Where all sources of a VRT must lie."""
    plane: Plane = ()
    """Which plane of a stack is meant."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the permission in other processes."""
        return _permitted, (str(self), tuple(sorted(self.formats)), self.below, self.plane)

    def absolute(self) -> PermittedPath:
        """Return the same path from the root of the file system."""
        below = None if self.below is None else self.below.absolute()
        return _permitted(str(Path(str(self)).absolute()), self.formats, below, self.plane)


def _permitted(
    path: str, formats: Collection[str], below: Path | None, plane: Plane = ()
) -> PermittedPath:
    permitted = PermittedPath(path)
    permitted.formats, permitted.below, permitted.plane = frozenset(formats), below, plane
    return permitted


def at_plane(path: Path, plane: Iterable[tuple[str, int]]) -> Path:
    """Return a path that means one plane of a stack; ordinary images stay what they are.

    Args:
        path: of a raster, or of another image.
        plane: positions on axes of `PLANE_AXES`, from 0; empty: none is chosen.
    """
    told = tuple(sorted(plane))
    if not told or isinstance(path, RemotePath) or not is_raster(path):
        return path
    if isinstance(path, PermittedPath):
        return _permitted(str(path), path.formats, path.below, told)
    return _permitted(str(path), (), None, told)


def permit(
    path: Path, formats: Collection[str] = (), *, allow_vrt: bool = False, root: Path | None = None
) -> Path:
    """Return a path that may also be of some formats that are not read otherwise.

    Args:
        path: of a raster.
        formats: of `OPT_IN`.
        allow_vrt: take a VRT, too.
        root: where all of its sources must lie; None: in its folder or below.
    """
    if not (formats or allow_vrt) or isinstance(path, RemotePath):
        return path
    given = {*formats, VRT} if allow_vrt else formats
    plane = path.plane if isinstance(path, PermittedPath) else ()
    return _permitted(str(path), given, root or Path(str(path)).parent, plane)


def permit_scene(path: Path, formats: Collection[str], *, allow_vrt: bool) -> Path:
    """Return a scene that was named by itself, with what is permitted for files like it.

    Folders and ordinary images stay what they are.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in _IMAGES:
        return path
    if suffix == ".vrt":
        return permit(path, allow_vrt=allow_vrt)
    return permit(path, formats)


def parse_formats(text: str) -> tuple[OptIn, ...]:
    """Return the formats of a list with commas.

    Raises:
        ConfigError: SEG-X110, a name is none of `OPT_IN`.
    """
    words = [word.strip().upper() for word in text.split(",") if word.strip()]
    unknown = next((word for word in words if word not in OPT_IN), None)
    if unknown is not None:
        raise ConfigError(
            "SEG-X110",
            "--formats names a format that is not read",
            observed=unknown,
            allowed=", ".join(OPT_IN) + "; GeoTIFF and JPEG 2000 need no permission",
            next_step="convert the file, e.g. `gdal_translate -of GTiff IN OUT.tif`; a VRT needs "
            "--allow-vrt",
        )
    return tuple(each for each in OPT_IN if each in words)


def is_raster(path: Path) -> bool:
    """Tell whether a path is read as a raster, by its suffix or what it was permitted."""
    # `suffix` takes twenty times as long.
    if str(path).lower().endswith((*RASTER_SUFFIXES, *_ON_REQUEST)):
        return True
    return isinstance(path, PermittedPath) or sentinel2.is_product(path)


def holds_raster(path: Path) -> bool:
    """Tell whether a file is a raster by its suffix or, where that says nothing, its content.

    Ordinary images keep their suffix's word, and nothing is fetched from elsewhere.
    """
    if is_raster(path):
        return True
    if isinstance(path, RemotePath) or path.suffix.lower() in _IMAGES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    return bool(head) and image_headers.content_name(head) in _READ_EVERYWHERE


def is_folder_raster(path: Path) -> bool:
    """Tell whether a folder is one raster: a Sentinel-2 product, or OME-Zarr."""
    return sentinel2.is_product(path) or (
        str(path).lower().endswith(ZARR_SUFFIX) and Path(str(path)).is_dir()
    )


def is_tiff(path: Path) -> bool:
    """Tell whether a path names a TIFF, by its suffix."""
    return str(path).lower().endswith(TIFF_SUFFIXES)
