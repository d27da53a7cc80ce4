"""What the header of an image file tells, whatever its format."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
"""Of the image files that are read without GDAL, lower case."""

ORIENTATION_TAG = 0x0112


class Colour(Enum):
    """How the samples of a pixel are to be understood."""

    GREY = "grey"
    GREY_ALPHA = "grey + alpha"
    RGB = "RGB"
    RGBA = "RGBA"
    PALETTE = "palette"
    CMYK = "CMYK"


@dataclass(frozen=True, slots=True)
class Header:
    """What an image file says of itself.

    Attributes:
        content: ``PNG``, ``JPEG``, ``BMP``, ``GIF`` or ``WebP``.
        rows: height in pixels, as stored.
        columns: width in pixels, as stored.
        bits: of one sample, 1…16.
        colour: meaning of the samples.
        orientation: Exif orientation, 1 where none is given.
        is_lossy: whether pixels are not what they were before they were written.
        unread: what of it is not read here, in words; empty: nothing.
    """

    content: str
    rows: int
    columns: int
    bits: int
    colour: Colour
    orientation: int = 1
    is_lossy: bool = False
    unread: str = ""


class CutShortError(Exception):
    """The file ends before its own end mark."""


class DamagedError(Exception):
    """The file contradicts itself; the message says where."""


def orientation_of(exif: bytes) -> int:
    """Return the orientation of the first Exif directory; 1 where it has none or is malformed."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, directory + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return int(value)
    except struct.error:
        return 1
    return 1
