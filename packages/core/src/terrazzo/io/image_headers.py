"""What the bytes of an image file say of themselves; no pixel is decoded here.

One walk along the segments of a file tells its size, bit depth and orientation, and whether the
file is whole. Neither decoder can be asked for the last: OpenCV fills the missing part of a cut
JPEG with grey, and Pillow takes a JPEG without its end.

Sources: PNG specification (W3C, third edition), sections 5 and 11; JPEG, ITU-T T.81 annex B;
orientation, Exif 2.32 section 4.6.4.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from terrazzo.io.header_types import ORIENTATION_TAG as ORIENTATION_TAG
from terrazzo.io.header_types import Colour as Colour
from terrazzo.io.header_types import CutShortError as CutShortError
from terrazzo.io.header_types import DamagedError as DamagedError
from terrazzo.io.header_types import Header as Header
from terrazzo.io.header_types import orientation_of
from terrazzo.io.other_headers import (
    BMP_SIGNATURE,
    GIF_SIGNATURES,
    WEBP_SIGNATURE,
    walk_bmp,
    walk_gif,
    walk_webp,
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

_MAGIC = {
    PNG_SIGNATURE: "PNG",
    JPEG_SIGNATURE: "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "RIFF",
    b"\x93NUMPY": "a NumPy array",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "PDF",
    b"<VRTDataset": "VRT",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"EHFA_HEADER_TAG": "HFA",
    b"version https://git-lfs": "a Git LFS pointer (run `git lfs pull`)",
}
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE, _EXIF_SEGMENT = 0xDA, b"\xff\xd9", 0xE1


_PNG_COLOURS = {
    0: Colour.GREY,
    2: Colour.RGB,
    3: Colour.PALETTE,
    4: Colour.GREY_ALPHA,
    6: Colour.RGBA,
}
_JPEG_COLOURS = {1: Colour.GREY, 3: Colour.RGB, 4: Colour.CMYK}


def content_name(data: bytes) -> str:
    """Name what `data` holds, judged by its first bytes."""
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    try:
        text = data[:64].decode("ascii")
    except UnicodeDecodeError:
        return f"unknown (starts with {data[:4].hex(' ')})"
    return f"text (starts with {text[:24]!r})"


def parse(data: bytes, *, whole: bool = True) -> Header | None:
    """Read the header of a PNG, JPEG, BMP, GIF or WebP file.

    Args:
        data: the file, or its beginning where `whole` is false.
        whole: also check that the file reaches its end mark and, for PNG, every checksum.

    Returns:
        The header, or None where the content is none of them.

    Raises:
        CutShortError: the file ends too early.
        DamagedError: the structure is not that of the format.
    """
    for signature, walk in _WALKS:
        if data.startswith(signature):
            return walk(data, whole)
        if signature.startswith(data):
            raise CutShortError
    return None


def _walk_png(data: bytes, whole: bool) -> Header:
    position, orientation, fields = len(PNG_SIGNATURE), 1, None
    view = memoryview(data)
    while True:
        if position + 12 > len(data):
            raise CutShortError
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT" and fields is not None and not whole:
            break  # what says how it lies nearly always stands before the pixels
        end = position + 12 + length
        if end > len(data):
            raise CutShortError
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            reason = f"checksum of the PNG chunk at byte {position}"
            raise DamagedError(reason)
        if kind == b"IHDR" and length == 13:
            fields = struct.unpack_from(">IIBB", data, position + 8)
        elif kind == b"eXIf":
            orientation = orientation_of(data[position + 8 : end - 4])
        if kind == b"IEND":
            break
        position = end
    if fields is None or fields[3] not in _PNG_COLOURS:
        raise DamagedError("no valid PNG header chunk")
    columns, rows, bits, colour = fields
    return Header("PNG", rows, columns, bits, _PNG_COLOURS[colour], orientation)


def _walk_jpeg(data: bytes, whole: bool) -> Header:
    position, orientation, fields = 2, 1, None
    while True:
        if position + 4 > len(data):
            raise CutShortError
        mark, kind, length = struct.unpack_from(">BBH", data, position)
        if mark != 0xFF:
            reason = f"no JPEG marker at byte {position}"
            raise DamagedError(reason)
        if kind == 0xFF:  # fill byte
            position += 1
            continue
        end = position + 2 + length
        if end > len(data):
            raise CutShortError
        if kind == _EXIF_SEGMENT and data.startswith(b"Exif\0\0", position + 4):
            orientation = orientation_of(data[position + 10 : end])
        elif kind in _START_OF_FRAME and length >= 8:
            fields = struct.unpack_from(">BHHB", data, position + 4)
        position = end
        if kind == _START_OF_SCAN or (fields is not None and not whole):
            break
    # Compressed data never holds an end mark: its FF bytes are followed by 00 or a restart mark.
    # Searched from the end, where it usually is.
    if whole and data.rfind(_END_OF_IMAGE, position) < 0:
        raise CutShortError
    if fields is None or fields[3] not in _JPEG_COLOURS:
        raise DamagedError("no valid JPEG frame header")
    bits, rows, columns, samples = fields
    return Header("JPEG", rows, columns, bits, _JPEG_COLOURS[samples], orientation, is_lossy=True)


_WALKS: tuple[tuple[bytes, Callable[[bytes, bool], Header | None]], ...] = (
    (PNG_SIGNATURE, _walk_png),
    (JPEG_SIGNATURE, _walk_jpeg),
    (BMP_SIGNATURE, walk_bmp),
    *((signature, walk_gif) for signature in GIF_SIGNATURES),
    (WEBP_SIGNATURE, walk_webp),
)


_METADATA_TAG = 42112  # GDAL_METADATA: XML
_NODATA_TAG = 42113  # GDAL_NODATA: a number as text
_SHORT = 3  # the TIFF type of 16-bit numbers
_MOST_TEXT = 64
_DESCRIPTION_TAG, _MOST_DESCRIPTION = 270, 1 << 20


def tiff_nodata(path: Path) -> str | None:
    """Return the nodata value in the first directory of a TIFF, as its text; None: there is none.

    What GDAL cannot store in a pixel it does not tell of, so this looks for itself.
    """
    text = _tiff_tag(path, _NODATA_TAG)
    return None if text is None else text[0].rstrip(b"\0 ").decode("ascii", "replace")


def tiff_orientation(path: Path) -> int:
    """Return the orientation in the first directory of a TIFF; 1 where it has none."""
    found = _tiff_tag(path, ORIENTATION_TAG)
    if found is None or len(found[0]) < 2:
        return 1
    return int.from_bytes(found[0][:2], "little" if found[1] == "<" else "big")


def tiff_description(path: Path) -> str | None:
    """Return the description in the first directory of a TIFF; None: there is none.

    GDAL does not tell of one that is not UTF-8: here that one is Latin-1, as in old ImageJ files.
    """
    found = _tiff_tag(path, _DESCRIPTION_TAG, _MOST_DESCRIPTION)
    if found is None:
        return None
    text = found[0].rstrip(b"\0")
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def tiff_lacks_pages(path: Path) -> bool:
    """Tell whether a TIFF says that its second page lies beyond its end: it was cut."""
    with path.open("rb") as file:
        found = _tiff_next(file)
        return found >= file.seek(0, 2)


def tiff_metadata(path: Path) -> tuple[int, bytes] | None:
    """Return where GDAL's own metadata lies in a TIFF, and its XML; None: there is none."""
    with path.open("rb") as file:
        found = _tiff_entry(file, _METADATA_TAG)
        if found is None:
            return None
        size, _, _, first = found
        if first is None:  # a text that short says nothing
            return None
        file.seek(first)
        return first, file.read(size)


def _tiff_tag(path: Path, wanted: int, most: int = _MOST_TEXT) -> tuple[bytes, str] | None:
    """Return the first bytes of a tag's value and the byte order; None: there is no such tag."""
    with path.open("rb") as file:
        found = _tiff_entry(file, wanted)
        if found is None:
            return None
        size, value, order, first = found
        if first is not None:
            file.seek(first)
            value = file.read(min(size, most))
        return value[:size], order


def _tiff_next(file: BinaryIO) -> int:
    """Return where the second directory of a TIFF lies; 0 where it has none."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"\x2b\x00", b"\x00\x2b")
    entry, count, place = (20, "Q", "Q") if big else (12, "H", "I")
    file.seek(struct.unpack_from(order + place, head, 8 if big else 4)[0])
    entries = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
    file.seek(entries * entry, 1)
    told = file.read(struct.calcsize(order + place))
    return struct.unpack(order + place, told)[0] if len(told) == struct.calcsize(place) else 0


def _tiff_entry(file: BinaryIO, wanted: int) -> tuple[int, bytes, str, int | None] | None:
    """Find a tag in the first directory of a TIFF; None: there is no such tag.

    Source: TIFF 6.0, section 2, and the BigTIFF design.

    Returns:
        Bytes of the value, what the entry itself holds, the byte order, and where the value lies
        if the entry does not hold it.
    """
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"\x2b\x00", b"\x00\x2b")
    entry, count, place = (f"{order}HHQ8s", "Q", "Q") if big else (f"{order}HHI4s", "H", "I")
    file.seek(struct.unpack_from(order + place, head, 8 if big else 4)[0])
    entries = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
    directory = file.read(entries * struct.calcsize(entry))
    for tag, kind, length, value in struct.iter_unpack(entry, directory):
        if tag == wanted:
            size = length * (2 if kind == _SHORT else 1)
            outside = size > len(value)
            return size, value, order, struct.unpack(order + place, value)[0] if outside else None
    return None


_CODESTREAM, _TILE_PART, _END_OF_CODESTREAM = b"\xff\x4f", 0xFF90, 0xFFD9


def require_whole_jp2(path: Path) -> None:
    """Refuse a JPEG 2000 file that ends before its own end mark; no pixel is decoded.

    GDAL, decoding several tiles at a time, hands out the lacking ones as 0 without an error.

    Source: ISO/IEC 15444-1, annex A (markers) and annex I (boxes).

    Raises:
        CutShortError: the file ends too early.
        DamagedError: the structure is not that of the format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            at = _codestream_of(file)
            while at < size:
                at = _next_tile_part(file, at)
                if at < 0:
                    return
        except struct.error:
            pass
    raise CutShortError


def _codestream_of(file: BinaryIO) -> int:
    """Return where the first marker after the begin of the codestream lies."""
    at = 0
    if file.read(2) == _CODESTREAM:
        return 2
    while True:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            head = 16
        if kind == b"jp2c":
            return at + head + 2
        if length < head:
            reason = f"no codestream; box {kind!r} at byte {at}"
            raise DamagedError(reason)
        at += length


def _next_tile_part(file: BinaryIO, at: int) -> int:
    """Return where the marker after the one at `at` lies; -1 where this one is the end mark."""
    file.seek(at)
    (marker,) = struct.unpack(">H", file.read(2))
    if marker == _END_OF_CODESTREAM:
        return -1
    if marker == _TILE_PART:
        _, _, length = struct.unpack(">HHI", file.read(8))
        if length == 0:  # the last one: it reaches to the end mark
            file.seek(-2, 2)
            end = file.tell()
            return end if file.read(2) == _END_OF_CODESTREAM.to_bytes(2, "big") else end + 2
        return at + int(length)
    if marker < 0xFF00:
        reason = f"no JPEG 2000 marker at byte {at}"
        raise DamagedError(reason)
    (length,) = struct.unpack(">H", file.read(2))
    return at + 2 + int(length)
