"""PNG, JPEG, BMP, GIF and WebP files as arrays: the only module that decodes them.

Images are decoded by OpenCV: it keeps 16 bits, lets other threads run, and took 1.6 ms for a
CamVid JPEG where Pillow took 3.1 ms. So are grey 8-bit labels; the others by Pillow, for OpenCV
turns palette indices into colours, and so are BMP, GIF and WebP. Both only after
`image_headers.parse` has found the file whole, for neither decoder reliably says so.

OpenCV's own threads are left alone here; who reads in several threads calls
``cv2.setNumThreads(0)`` once, or every reader thread wakes a pool of its own size.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from terrazzo.base.atomic_write import replacing
from terrazzo.base.errors import DataError, ResourceError
from terrazzo.base.memory import host_ran_out, out_of_memory, size_of
from terrazzo.base.reading import now_reading
from terrazzo.io import image_headers
from terrazzo.io.header_types import SUFFIXES
from terrazzo.io.image_headers import Colour, Header
from terrazzo.io.special_files import refuse_special

IMAGE_SUFFIXES = SUFFIXES

PIXEL_LIMIT = 89_478_485
"""Largest rows × columns decoded: a quarter GiB as RGB. Above it Pillow would warn, and a warning
cannot be caught safely in a thread; larger scenes belong in a GeoTIFF, which is read by window."""

COARSE = 64
"""Least rows and columns of an image that comes reduced on request."""

ORIENTATIONS = range(1, 9)
"""Of Exif; 1 is upright."""
SWAPPING = (5, 6, 7, 8)
"""Orientations that swap rows and columns."""

_HEAD_BYTES = 1 << 18  # enough for the header of nearly any file, with its profile and thumbnail
_BY_PILLOW = ("BMP", "GIF", "WebP")
_BANDS = {Colour.GREY: 1, Colour.GREY_ALPHA: 1}


class _Recent(threading.local):
    """The file that this thread decoded last."""

    path: Path | None = None
    data: bytes = b""
    header: Header | None = None


_recent = _Recent()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What `read_image` will return, known without decoding: rows, columns, bands, dtype name."""

    rows: int
    columns: int
    bands: int
    dtype: str


def image_info(path: Path, *, any_orientation: bool = False) -> ImageInfo:
    """Read the header of an image or label; cheap, and no check that the file is whole.

    Args:
        path: the file.
        any_orientation: whether it may be one that is to be turned on display; its rows and columns
            are those of the stored pixels.

    Raises:
        DataError: as `read_image`, as far as the header can tell.
    """
    data, header = _read_header(path)
    return _info_of(path, data, _upright(header) if any_orientation else header)


def _read_header(path: Path) -> tuple[bytes, Header | None]:
    """Return the beginning of a file, and its header; None: it holds no image."""
    data = _read_bytes(path, _HEAD_BYTES)
    try:
        return data, image_headers.parse(data, whole=False)
    except (image_headers.CutShortError, image_headers.DamagedError):
        return data, _parse(path, _read_bytes(path))


def header_of(path: Path) -> Header | None:
    """Read the header of a file; None: it holds no image that is read here.

    Raises:
        DataError: SEG-D011 damaged; SEG-D013 missing or unreadable.
    """
    return _read_header(path)[1]


def _upright(header: Header | None) -> Header | None:
    return None if header is None else replace(header, orientation=1)


def has_alpha(path: Path) -> bool:
    """Whether the header of a PNG says that a band is alpha; no other file has one.

    Raises:
        DataError: as `image_info`.
    """
    data = _read_bytes(path, _HEAD_BYTES)
    try:
        header = image_headers.parse(data, whole=False)
    except (image_headers.CutShortError, image_headers.DamagedError):
        return False
    return header is not None and header.colour in (Colour.RGBA, Colour.GREY_ALPHA)


def decoded_info(data: bytes, path: Path) -> ImageInfo:
    """Read the header of a whole file in memory; see `image_info`.

    Args:
        data: the file.
        path: its name, for messages; nothing is read there.

    Raises:
        DataError: as `read_image`, as far as the header can tell, and SEG-D011 where the file is
            not whole.
    """
    return _info_of(path, data, _parse(path, data))


def _info_of(path: Path, data: bytes, header: Header | None) -> ImageInfo:
    if header is None:
        raise _not_an_image(path, data)
    _check_header(path, header)
    dtype = "uint16" if header.bits == 16 else "uint8"
    return ImageInfo(header.rows, header.columns, _BANDS.get(header.colour, 3), dtype)


def decoded_bytes(path: Path) -> tuple[bytes, Header | None]:
    """Return the bytes of a file and its header, None where it is no image.

    What this thread has just decoded is not read again: the bytes are those that were decoded.

    Raises:
        DataError: as `read_image`, as far as the header can tell.
    """
    if _recent.path == path:
        return _recent.data, _recent.header
    data = _read_bytes(path)
    return data, _parse(path, data)


def image_size(path: Path) -> tuple[int, int]:
    """Return rows and columns of an image or label from its header alone.

    Raises:
        DataError: as `image_info`.
    """
    info = image_info(path)
    return info.rows, info.columns


def stored_size(path: Path) -> tuple[tuple[int, int], int]:
    """Return rows and columns of an image as its file stores them, and its Exif orientation.

    Raises:
        DataError: as `image_info`, but for the orientation.
    """
    data, header = _read_header(path)
    if header is None:
        raise _not_an_image(path, data)
    _check_header(path, replace(header, orientation=1))
    return (header.rows, header.columns), header.orientation


def read_image(
    path: Path,
    *,
    coarse: bool = False,
    drop_alpha: bool = False,
    turned_by: int | None = None,
) -> NDArray[Any]:
    """Decode an image. Its content decides which format it is of, not its name.

    Args:
        path: the file.
        coarse: a JPEG may come at a quarter of its size, or at half, as long as `COARSE` rows and
            columns are left; its pixels are means of 16, or of four. Its file is read to the end
            just the same, in half the time.
        drop_alpha: leave an alpha band out whatever it holds, and keep the colours below.
        turned_by: the Exif orientation by which the stored pixels are turned, whatever the file
            says; 1: as they are stored. None: the file must be upright.

    Returns:
        H×W×C, uint8 or (16-bit PNG) uint16; C is 1 for grey and 3 for red, green, blue. Palette
        colours are looked up. An alpha band is dropped if it is opaque everywhere.

    Raises:
        DataError: SEG-D010 Exif orientation other than 1; SEG-D011 truncated or damaged; SEG-D012
            no image; SEG-D013 missing, empty or unreadable; SEG-D019 transparent pixels, CMYK,
            animations; SEG-D031 more than `PIXEL_LIMIT` pixels.
    """
    return decode_image(
        _read_bytes(path), path, coarse=coarse, drop_alpha=drop_alpha, turned_by=turned_by
    )


def decode_image(
    data: bytes,
    path: Path,
    *,
    coarse: bool = False,
    drop_alpha: bool = False,
    turned_by: int | None = None,
) -> NDArray[Any]:
    """Decode the bytes of a file; see `read_image`.

    Args:
        data: the file.
        path: its name, for messages; nothing is read there.
        coarse: see `read_image`.
        drop_alpha: see `read_image`.
        turned_by: see `read_image`.

    Raises:
        DataError: as `read_image`.
    """
    header = _parse(path, data)
    if header is None:
        raise _not_an_image(path, data)
    if turned_by is None:
        _check_header(path, header)
        return _decode(data, path, header, coarse=coarse, drop_alpha=drop_alpha)
    _check_header(path, replace(header, orientation=1))
    stored_HWC = _decode(data, path, header, coarse=coarse, drop_alpha=drop_alpha)
    return turned(stored_HWC, turned_by)


def turned(pixels_HWC: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror stored pixels as an Exif orientation says they are displayed.

    Args:
        pixels_HWC: H×W or H×W×C.
        orientation: 1 to 8.

    Source: Exif 2.32, section 4.6.4, which side of the picture row 0 and column 0 are.
    """
    if orientation in SWAPPING:
        pixels_HWC = pixels_HWC.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels_HWC = pixels_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return np.ascontiguousarray(pixels_HWC)


def _decode(
    data: bytes, path: Path, header: Header, *, coarse: bool, drop_alpha: bool
) -> NDArray[Any]:
    if header.colour is Colour.PALETTE or header.content in _BY_PILLOW:
        # RGBA, not RGB: Pillow warns of transparent palette entries otherwise.
        colours_HWC = np.asarray(_pillow(path, data, header).convert("RGBA"))
        return _without_alpha(path, colours_HWC, header, drop=drop_alpha)
    if header.content == "JPEG" and header.colour is Colour.RGB and header.bits == 8:
        size = _reduction(header) if coarse else 0
        return _opencv(path, data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | size)
    decoded = _opencv(path, data, cv2.IMREAD_UNCHANGED)
    if decoded.ndim == 2:
        return decoded[..., None]
    to_rgb = cv2.COLOR_BGR2RGB if decoded.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return _without_alpha(path, cv2.cvtColor(decoded, to_rgb), header, drop=drop_alpha)


def read_label(path: Path, kind: Literal["index", "colour"]) -> NDArray[Any]:
    """Decode a label mask, exactly as stored.

    Args:
        path: a PNG, BMP, GIF or WebP file, judged by its content.
        kind: ``index`` for the numbers in a grey or palette file, a GIF whose palette is grey being
            grey; ``colour`` for the colours of any 8-bit file, looked up in its palette where it
            has one.

    Returns:
        H×W uint8 or uint16 for ``index``, H×W×3 uint8 for ``colour``.

    Raises:
        DataError: SEG-D007 colours where indices are wanted, or more than 8 bits where colours are;
            SEG-D008 JPEG or WebP with losses, whatever the name; otherwise as `read_image`.
    """
    return _decode_label(_read_bytes(path), path, kind)


def decode_label(data: bytes, path: Path) -> NDArray[Any]:
    """Decode the bytes of a mask of class indices; see `read_label`.

    Args:
        data: the file.
        path: its name, for messages; nothing is read there.

    Raises:
        DataError: as `read_label`.
    """
    return _decode_label(data, path, "index")


def decode_bitmap(data: bytes, path: Path) -> NDArray[np.bool_]:
    """Decode the bytes of a binary mask: where its alpha is above 0, or its number without alpha.

    Args:
        data: the file.
        path: its name, for messages; nothing is read there.

    Raises:
        DataError: as `read_label`.
    """
    header = _parse(path, data)
    if header is not None and header.colour in (Colour.RGBA, Colour.GREY_ALPHA):
        _check_header(path, header)
        values_HW = _opencv(path, data, cv2.IMREAD_UNCHANGED)[..., 3]
    else:
        values_HW = _decode_label(data, path, "index")
    inside_HW: NDArray[np.bool_] = values_HW != 0
    return inside_HW


def _decode_label(data: bytes, path: Path, kind: Literal["index", "colour"]) -> NDArray[Any]:
    if data.startswith(image_headers.JPEG_SIGNATURE):
        raise _lossy(path, "JPEG")  # also one that is cut short
    header = _parse(path, data)
    if header is None:
        raise _not_an_image(path, data, allowed="PNG, BMP, GIF, WebP without losses or GeoTIFF")
    if header.is_lossy:
        raise _lossy(path, header.content)
    _check_header(path, header)
    if kind == "index":
        return _indices(path, data, header)
    return _colours(path, data, header)


def _lossy(path: Path, content: str) -> DataError:
    told = content if content == "JPEG" else f"{content} with losses"
    return DataError(
        "SEG-D008",
        f"lossy label format: {told} changes class values along every edge",
        file=path,
        observed=f"content is {told}",
        allowed="PNG or GeoTIFF",
        next_step=f"export the masks again as PNG; converting the {content} does not bring the "
        "values back",
    )


def palette(data: bytes) -> NDArray[np.uint8] | None:
    """Return the palette of an image file, P×3 red, green, blue; None where it has none.

    Args:
        data: the file.
    """
    try:
        header = image_headers.parse(data, whole=False)
    except (image_headers.CutShortError, image_headers.DamagedError):
        return None
    if header is None or header.colour is not Colour.PALETTE:
        return None
    image = Image.open(io.BytesIO(data), formats=(header.content.upper(),))  # the header alone
    return np.frombuffer(bytes(image.getpalette("RGB") or ()), np.uint8).reshape(-1, 3)


def write_png(
    path: Path,
    array: NDArray[Any],
    palette_P3: NDArray[np.uint8] | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write an image as PNG; complete or not at all.

    Args:
        path: where to.
        array: H×W uint8 or uint16, or H×W×3 uint8.
        palette_P3: red, green, blue by which programs show the values of an H×W uint8 from 0 on;
            what it leaves out is black. The values stay what they are.
        texts: notes by keyword, in the file.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    image = as_png_image(array, palette_P3)
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=_notes(texts or {}))


def _notes(texts: Mapping[str, str]) -> PngImagePlugin.PngInfo | None:
    if not texts:
        return None
    notes = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        notes.add_itxt(keyword, text)
    return notes


def as_png_image(array: NDArray[Any], palette_P3: NDArray[np.uint8] | None = None) -> Image.Image:
    """Return a Pillow image whose PNG is that of `write_png`."""
    image = Image.fromarray(array)
    if palette_P3 is not None:
        full_P3 = np.zeros((256, 3), np.uint8)  # fewer would be stored in fewer bits
        full_P3[: len(palette_P3)] = palette_P3
        image.putpalette(full_P3.tobytes())
    return image


def as_rgb(image_HWC: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the first three bands as uint8 for people to look at (one band: grey).

    Anything but uint8 is stretched from its 2nd to its 98th percentile.
    """
    shown = image_HWC[..., :3] if image_HWC.shape[2] >= 3 else np.repeat(image_HWC[..., :1], 3, 2)
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    low, high = np.nanpercentile(shown, (2, 98))
    scaled = (shown.astype(np.float32) - low) / max(high - low, 1e-6)
    stretched: NDArray[np.uint8] = (np.clip(np.nan_to_num(scaled), 0, 1) * 255).astype(np.uint8)
    return stretched


def _reduction(header: Header) -> int:
    """Return what asks OpenCV for a part of the size; despite their names, of colours as well."""
    side = min(header.rows, header.columns)
    if side >= 4 * COARSE:
        return cv2.IMREAD_REDUCED_GRAYSCALE_4
    return cv2.IMREAD_REDUCED_GRAYSCALE_2 if side >= 2 * COARSE else 0


def _indices(path: Path, data: bytes, header: Header) -> NDArray[Any]:
    if header.colour is Colour.GREY_ALPHA:
        return _without_alpha(path, _opencv(path, data, cv2.IMREAD_UNCHANGED), header)[..., 0]
    if header.colour not in (Colour.GREY, Colour.PALETTE):
        raise DataError(
            "SEG-D007",
            "a mask of class indices is wanted, and this one holds colours",
            file=path,
            observed=f"{header.colour.value} {header.content}",
            allowed="grey or palette PNG, BMP or GIF",
            next_step='set mask_kind = "colour" and choose a label map with raw = ["#RRGGBB"], or '
            "export the masks with one band",
        )
    if header.colour is Colour.GREY and header.bits == 8 and header.content == "PNG":
        decoded = _opencv(path, data, cv2.IMREAD_UNCHANGED)
        if decoded.ndim == 2:  # with a transparent grey, OpenCV adds bands
            return decoded
    image = _pillow(path, data, header)
    if header.colour is Colour.GREY and header.content == "GIF":
        return np.asarray(image.convert("RGBA"))[..., 0].copy()  # the greys, whatever their numbers
    values = np.asarray(image)
    if header.colour is Colour.GREY and 1 < header.bits < 8 and header.content == "PNG":
        # Pillow spreads 2 and 4 bits over 0…255; the numbers as stored are wanted.
        values = values // np.uint8(255 // (2**header.bits - 1))
    return values.astype(np.uint16 if header.bits == 16 else np.uint8)


def _colours(path: Path, data: bytes, header: Header) -> NDArray[Any]:
    if header.bits == 16:
        raise DataError(
            "SEG-D007",
            "a mask of colours must have 8 bits",
            file=path,
            observed=f"16-bit {header.colour.value} PNG",
            allowed="8-bit PNG",
            next_step='export the masks with 8 bits, or set mask_kind = "index" if they hold class '
            "indices",
        )
    colours_HWC = np.asarray(_pillow(path, data, header).convert("RGBA"))
    opaque_HWC = _without_alpha(path, colours_HWC, header)
    return opaque_HWC if opaque_HWC.shape[2] == 3 else np.repeat(opaque_HWC, 3, axis=2)


def _without_alpha(
    path: Path, pixels_HWC: NDArray[Any], header: Header, *, drop: bool = False
) -> NDArray[Any]:
    if pixels_HWC.shape[2] == 3:
        return pixels_HWC
    alpha_HW = pixels_HWC[..., 3]
    opaque = np.iinfo(pixels_HWC.dtype).max
    if not drop and alpha_HW.min() < opaque:
        see_through = alpha_HW < opaque
        row, column = (int(axis[0]) for axis in np.nonzero(see_through))
        raise DataError(
            "SEG-D019",
            "transparent pixels: what they stand for is not known",
            file=path,
            observed=f"{int(see_through.sum())} px of a {header.colour.value} image, first at "
            f"row {row}, column {column}",
            allowed="no alpha band, or one that is opaque everywhere",
            next_step="flatten the image on a background colour of your choice",
        )
    return np.ascontiguousarray(pixels_HWC[..., : _BANDS.get(header.colour, 3)])


def _opencv(path: Path, data: bytes, flags: int) -> NDArray[Any]:
    try:
        decoded: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _undecoded(path, data, error) from error
    if decoded is None:
        raise _damaged(path, data, "OpenCV cannot decode it")
    return decoded


def _pillow(path: Path, data: bytes, header: Header) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=(header.content.upper(),))
        image.load()
    except MemoryError as error:
        raise _undecoded(path, data, error) from error
    except (OSError, SyntaxError, ValueError) as error:  # all mean a broken file to Pillow
        raise _damaged(path, data, str(error)) from error
    return image


def _parse(path: Path, data: bytes) -> Header | None:
    try:
        header = image_headers.parse(data)
    except image_headers.CutShortError:
        raise DataError(
            "SEG-D011",
            "the image file is truncated",
            file=path,
            observed=f"ends after {len(data)} bytes, before its end mark",
            next_step="copy or export the file again",
        ) from None
    except image_headers.DamagedError as error:
        raise _damaged(path, data, str(error)) from None
    _recent.path, _recent.data, _recent.header = path, data, header
    return header


def _check_header(path: Path, header: Header) -> None:
    if not 0 < header.rows * header.columns <= PIXEL_LIMIT:
        raise DataError(
            "SEG-D031",
            "the image declares an impossible number of pixels",
            file=path,
            observed=f"{header.rows} rows × {header.columns} columns",
            allowed=f"1…{PIXEL_LIMIT} pixels",
            next_step="cut it into smaller images, or convert it to GeoTIFF",
        )
    if header.orientation != 1:
        raise DataError(
            "SEG-D010",
            "the image is to be turned on display; it would not lie on its mask",
            file=path,
            observed=f"Exif tag Orientation (0x0112) = {header.orientation}",
            allowed="1, or no such tag",
            next_step="turn the pixels themselves and drop the tag, e.g. "
            "`mogrify -auto-orient FILE`, then check the mask",
        )
    if header.unread:
        raise DataError(
            "SEG-D019",
            "this kind of image is not read",
            file=path,
            observed=header.unread,
            allowed="one picture of 8- or 16-bit grey or RGB, or with a palette",
            next_step="save it again as PNG, one file a picture",
        )
    if header.colour is Colour.CMYK or header.bits not in (1, 2, 4, 8, 16):
        raise DataError(
            "SEG-D019",
            "this kind of pixel is not read",
            file=path,
            observed=f"{header.bits}-bit {header.colour.value} {header.content}",
            allowed="8- or 16-bit grey or RGB, or a palette",
            next_step="convert the image to RGB",
        )


def _read_bytes(path: Path, count: int = -1) -> bytes:
    now_reading(path)
    try:
        refuse_special(path, path.stat().st_mode)
        with path.open("rb") as file:
            data = file.read(count)
    except MemoryError as error:
        raise _undecoded(path, b"", error) from error
    except OSError as error:
        raise DataError(
            "SEG-D013",
            "cannot read the file",
            file=path,
            observed=error.strerror,
            next_step="check that the file is there and that you may read it",
        ) from None
    if not data:
        raise DataError(
            "SEG-D013",
            "the file is empty",
            file=path,
            observed="0 bytes",
            next_step="copy or export the file again",
        )
    return data


def _undecoded(path: Path, data: bytes, error: Exception) -> DataError | ResourceError:
    """Compose the error for a file that a decoder gave up; the file need not be at fault."""
    if not host_ran_out(error):
        return _damaged(path, data, str(error))
    size = None
    if _recent.path == path and (header := _recent.header) is not None:
        shape = (header.rows, header.columns, _BANDS.get(header.colour, 3))
        wide = header.bits == 16
        size = size_of(shape, "uint16" if wide else "uint8", 2 if wide else 1)
    return out_of_memory(
        "decoding an image",
        error,
        file=path,
        size=size,
        next_step="lower loader.threads and loader.prefetch, or cut the image into smaller ones",
    )


def _not_an_image(
    path: Path, data: bytes, *, allowed: str = "PNG, JPEG, BMP, GIF or WebP"
) -> DataError:
    return DataError(
        "SEG-D012",
        "the file does not hold an image that can be read here",
        file=path,
        observed=f"content is {image_headers.content_name(data)}",
        allowed=allowed,
        next_step="convert the file, or move it out of the folder",
    )


def _damaged(path: Path, data: bytes, reason: str) -> DataError:
    return DataError(
        "SEG-D011",
        "the image file is truncated or damaged",
        file=path,
        observed=f"{reason} ({len(data)} bytes)",
        next_step="copy or export the file again",
    )
