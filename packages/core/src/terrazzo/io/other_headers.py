"""What the bytes of a BMP, GIF or WebP file say of themselves; no pixel is decoded here.

Sources: Microsoft, "Bitmap Storage" (the headers of 12, 40, 52, 56, 64, 108 and 124 bytes);
CompuServe, "Graphics Interchange Format, Version 89a"; RFC 9649, "WebP Image Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from terrazzo.io.header_types import Colour, CutShortError, DamagedError, Header, orientation_of

BMP_SIGNATURE = b"BM"
GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
WEBP_SIGNATURE = b"RIFF"

_CORE = 12  # bytes of the oldest header of BMP
_BMP_HEADERS = frozenset([_CORE, 40, 52, 56, 64, 108, 124])
_AS_STORED, _BIT_FIELDS = 0, (3, 6)
_ALPHA_MASK_AT, _WITH_ALPHA_MASK = 66, 56


def walk_bmp(data: bytes, whole: bool) -> Header | None:
    """Read the header of a BMP; None where the content is something else."""
    if len(data) < 18:
        raise CutShortError
    start, size = struct.unpack_from("<II", data, 10)
    if size not in _BMP_HEADERS:
        return None
    if len(data) < 14 + max(size, 16):
        raise CutShortError
    compression, used = _AS_STORED, 0
    if size == _CORE:
        columns, rows, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        columns, rows, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (used,) = struct.unpack_from("<I", data, 46)
    if columns <= 0 or rows == 0 or bits not in (1, 4, 8, 16, 24, 32):
        reason = f"a BMP of {columns} columns, {rows} rows and {bits} bits a pixel"
        raise DamagedError(reason)
    rows = abs(rows)  # below 0: the upper row comes first
    unread = ""
    if compression not in (_AS_STORED, *_BIT_FIELDS):
        unread = "a BMP with compressed pixels"
    elif bits == 16:
        unread = "a BMP of 16 bits a pixel, 5 or 6 a colour"
    elif whole and start + (columns * bits + 31) // 32 * 4 * rows > len(data):
        raise CutShortError
    colour = Colour.RGB
    if bits <= 8:
        entry = 3 if size == _CORE else 4
        number = min(used or 1 << bits, 1 << bits)
        table = data[14 + size : 14 + size + entry * number]
        if len(table) < entry * number:
            raise CutShortError
        colour = _of_palette([table[at : at + 3] for at in range(0, len(table), entry)])
    elif compression in _BIT_FIELDS and size >= _WITH_ALPHA_MASK:
        (alpha,) = struct.unpack_from("<I", data, _ALPHA_MASK_AT)
        colour = Colour.RGBA if alpha else Colour.RGB
    return Header("BMP", rows, columns, min(bits, 8), colour, unread=unread)


def _of_palette(colours: list[bytes]) -> Colour:
    """Return grey for a palette that names each number by itself, as grey images have it."""
    if len(colours) == 2:
        greys = [bytes(3), bytes([255] * 3)]
    else:
        greys = [bytes([number] * 3) for number in range(len(colours))]
    return Colour.GREY if colours == greys else Colour.PALETTE


_EXTENSION, _FRAME, _END = 0x21, 0x2C, 0x3B


def walk_gif(data: bytes, whole: bool) -> Header:
    """Read the header of a GIF, and where `whole` is true count its pictures."""
    if len(data) < 13:
        raise CutShortError
    columns, rows, packed = struct.unpack_from("<HHB", data, 6)
    position = 13 + _table_size(packed)
    table = data[13:position]
    header, frames = None, 0
    while True:
        if position >= len(data):
            raise CutShortError
        kind = data[position]
        if kind == _END:
            break
        if kind == _EXTENSION:
            position = _after_blocks(data, position + 2)
            continue
        if kind != _FRAME:
            reason = f"no block of a GIF at byte {position}"
            raise DamagedError(reason)
        if position + 10 > len(data):
            raise CutShortError
        left, top, width, height, own = struct.unpack_from("<HHHHB", data, position + 1)
        position += 10
        if own & 0x80:
            table = data[position : position + _table_size(own)]
            position += _table_size(own)
        frames += 1
        if header is None:
            fits = (left, top, width, height) == (0, 0, columns, rows)
            unread = "" if fits else f"a GIF whose picture of {height}×{width} is a part of it"
            # A GIF has nothing but palettes, and programs number the greys of a picture anew.
            is_grey = bool(table) and table[0::3] == table[1::3] == table[2::3]
            colour = Colour.GREY if is_grey else Colour.PALETTE
            header = Header("GIF", rows, columns, 8, colour, unread=unread)
            if not whole:
                return header
        position = _after_blocks(data, position + 1)
    if header is None:
        reason = "a GIF without a picture"
        raise DamagedError(reason)
    if frames > 1:
        told = f"a GIF that is an animation of {frames} pictures"
        return Header("GIF", rows, columns, 8, header.colour, unread=told)
    return header


def _table_size(packed: int) -> int:
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _after_blocks(data: bytes, position: int) -> int:
    while True:
        if position >= len(data):
            raise CutShortError
        length = data[position]
        position += 1 + length
        if length == 0:
            return position


_IS_ANIMATED, _HAS_EXIF, _HAS_ALPHA = 0x02, 0x08, 0x10


def walk_webp(data: bytes, whole: bool) -> Header | None:
    """Read the header of a WebP; None where the content is something else."""
    if len(data) < 12:
        raise CutShortError
    if data[8:12] != b"WEBP":
        return None
    (size,) = struct.unpack_from("<I", data, 4)
    if whole and len(data) < size + 8:
        raise CutShortError
    orientation, rows, columns, flags, is_lossy, is_drawn = 1, 0, 0, 0, False, False
    for kind, at, length in _chunks(data, min(len(data), size + 8)):
        if kind == b"VP8X":
            flags = data[at]
            columns = 1 + int.from_bytes(data[at + 4 : at + 7], "little")
            rows = 1 + int.from_bytes(data[at + 7 : at + 10], "little")
        elif kind == b"VP8 ":
            is_lossy = is_drawn = True
            if not rows:
                columns, rows = (n & 0x3FFF for n in struct.unpack_from("<HH", data, at + 6))
        elif kind == b"VP8L":
            is_drawn = True
            if not rows:
                (packed,) = struct.unpack_from("<I", data, at + 1)
                columns, rows = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
                flags |= _HAS_ALPHA if packed >> 28 & 1 else 0
        elif kind == b"EXIF":
            exif = data[at : at + length]
            orientation = orientation_of(exif.removeprefix(b"Exif\0\0"))
            flags &= ~_HAS_EXIF
        if is_drawn and not whole and not flags & _HAS_EXIF:
            break
    if flags & _HAS_EXIF and not whole:
        raise CutShortError  # it stands behind the pixels
    if not is_drawn and not flags & _IS_ANIMATED:
        reason = "a WebP without a picture"
        raise DamagedError(reason)
    colour = Colour.RGBA if flags & _HAS_ALPHA else Colour.RGB
    unread = "a WebP that is an animation" if flags & _IS_ANIMATED else ""
    return Header("WebP", rows, columns, 8, colour, orientation, is_lossy, unread)


def _chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and length of each chunk whose beginning is there."""
    position = 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + min(length, 10) > end:
            raise CutShortError
        yield kind, position + 8, length
        position += 8 + length + length % 2
