"""What a TIFF may be beside one plane of plain samples, and what becomes of it.

Several pages, an orientation and lossy masks are refused; palettes and white-is-zero samples are
read as the colours they stand for in images, and as the stored numbers in labels.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from terrazzo.base.errors import DataError
from terrazzo.io import image_headers
from terrazzo.io.microscopy import notes as microscopy

PALETTE_BANDS = ("red", "green", "blue")

_IMAGEJ_AXES = ("channels", "slices", "frames")
_OME_AXES = ("SizeC", "SizeZ", "SizeT")
NO_MASK = "NO_MASK"
"""Tag by which `microscopes` says why a file cannot be a mask."""
_ALWAYS_LOSSY = ("JPEG", "YCbCr JPEG")


def refuse_several_planes(path: Path, dataset: Any) -> None:
    """Refuse a file of several pages, of which GDAL would hand out the first one alone.

    Raises:
        DataError: SEG-D041, naming the axes that the file tells of.
    """
    if count_planes(microscopy.description_of(path, dataset), dataset) > 1:
        raise several_planes(path, dataset)


def several_planes(path: Path, dataset: Any) -> DataError:
    """Compose the error for a file of several pages, naming the axes that it tells of."""
    description = microscopy.description_of(path, dataset)
    planes, axes = count_planes(description, dataset), _axes(description)
    return DataError(
        "SEG-D041",
        "the TIFF holds several planes, and which of them are meant is not known",
        file=path,
        observed=f"{planes} planes" + (f": {axes}" if axes else ""),
        allowed="one plane, with its channels as bands",
        next_step="write the channels of one plane as the bands of one page (height, width, "
        "channels), and other planes to files of their own; a mask needs one page of class indices",
    )


def count_planes(description: str, dataset: Any) -> int:
    """Return the number of planes in a TIFF, without the levels of a pyramid.

    Args:
        description: of its first page.
        dataset: the same as a rasterio data set.
    """
    found = re.search(r"^images=(\d+)$", description, re.MULTILINE)
    # ImageJ writes one directory for many planes where the file is large.
    imagej = int(found[1]) if found and description.startswith("ImageJ=") else 1
    return max(len(dataset.subdatasets), imagej)


def refuse_cut(path: Path) -> None:
    """Refuse a file that was cut behind its first page, which GDAL takes for one of one page.

    Raises:
        DataError: SEG-D011.
    """
    if image_headers.tiff_lacks_pages(path):
        raise DataError(
            "SEG-D011",
            "the file is truncated or damaged",
            file=path,
            observed=f"its second page lies beyond its end ({path.stat().st_size} bytes)",
            next_step="copy or export the file again",
        )


def _axes(description: str) -> str:
    """Name the axes that ImageJ, OME or tifffile note in the description of the first page."""
    if notes := microscopy.imagej_notes(description):
        return ", ".join(f"{notes[axis]} {axis} (ImageJ)" for axis in _IMAGEJ_AXES if axis in notes)
    if microscopy.is_ome(description):
        return _ome_axes(description)
    try:
        told = json.loads(description)
    except ValueError:
        return ""
    shape = told.get("shape") if isinstance(told, dict) else None
    return "" if not isinstance(shape, list) else f"shape {'×'.join(map(str, shape))}"


def _ome_axes(description: str) -> str:
    for pixels in microscopy.ome_pixels(description):
        sizes = [f"{axis} = {pixels[axis]}" for axis in _OME_AXES if axis in pixels]
        return f"{', '.join(sizes)} (OME)"
    return "OME"


def refuse_turned(path: Path) -> None:
    """Refuse a file that is to be turned on display, which GDAL passes over.

    Raises:
        DataError: SEG-D010.
    """
    orientation = image_headers.tiff_orientation(path)
    if orientation != 1:
        raise DataError(
            "SEG-D010",
            "the image is to be turned on display; it would not lie on its mask",
            file=path,
            observed=f"TIFF tag Orientation (0x0112) = {orientation}",
            allowed="1, or no such tag",
            next_step="turn the pixels themselves and drop the tag, e.g. "
            "`mogrify -auto-orient FILE`, then check the mask",
        )


def refuse_lossy(path: Path, dataset: Any) -> None:
    """Refuse labels that were compressed with losses: a class would become its neighbour's number.

    Raises:
        DataError: SEG-D008, naming the compression.
    """
    tags = dataset.tags(ns="IMAGE_STRUCTURE")
    compression = tags.get("COMPRESSION", "")
    tolerance = float(tags.get("MAX_Z_ERROR", 0))
    lossy = tags.get("COMPRESSION_REVERSIBILITY", "").startswith("LOSSY")
    if NO_MASK in tags:
        observed = tags[NO_MASK]
    elif compression in _ALWAYS_LOSSY or lossy:
        observed = f"{compression or 'JPEG 2000'} compression with losses"
    elif tolerance > 0:
        observed = f"{compression} compression with a tolerance (MAX_Z_ERROR) of {tolerance:g}"
    else:
        return
    raise DataError(
        "SEG-D008",
        "lossy label format: the compression changes class values",
        file=path,
        observed=observed,
        allowed="compression without losses, such as deflate, LZW, ZSTD or LERC with tolerance 0",
        next_step="write the labels again from their source; converting this file does not bring "
        "the values back",
    )


def palette_of(dataset: Any) -> NDArray[np.uint8] | None:
    """Return P×3 red, green, blue of a nameless band of palette indices; None: it is none.

    A band with a name holds numbers that mean something by themselves, as the maps made here do.
    """
    if dataset.colorinterp[0] is not ColorInterp.palette or dataset.descriptions[0]:
        return None
    if dataset.count != 1 or is_white_zero(dataset):  # GDAL gives those of one bit a palette
        return None
    colours = dataset.colormap(1)
    palette_PC = np.zeros((np.iinfo(dataset.dtypes[0]).max + 1, 3), np.uint8)
    for index, colour in colours.items():
        palette_PC[index] = colour[:3]
    return palette_PC


def is_white_zero(dataset: Any) -> bool:
    """Tell whether 0 stands for white (MinIsWhite), which GDAL notes and passes over."""
    return bool(dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES")


def inverted(path: Path, dataset: Any, image_HWC: NDArray[Any]) -> NDArray[Any]:
    """Return samples where 0 is white as samples where 0 is black.

    Raises:
        DataError: SEG-D019, they are no unsigned integers, so white is not known.
    """
    if image_HWC.dtype.kind != "u":
        raise DataError(
            "SEG-D019",
            "this kind of pixel is not read",
            file=path,
            observed=f"{image_HWC.dtype} samples where 0 is white (MinIsWhite)",
            allowed="MinIsWhite with unsigned integers",
            next_step="write the image with 0 as black (MinIsBlack)",
        )
    bits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * image_HWC.itemsize))
    largest = image_HWC.dtype.type((1 << bits) - 1)
    black_is_zero_HWC: NDArray[Any] = largest - image_HWC
    return black_is_zero_HWC
