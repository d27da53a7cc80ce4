"""TIFF of several pages: ImageJ stacks, OME-TIFF, pyramids, read by tifffile.

Its series tell which pages belong together and along which axes. Only tiles and strips that a
window touches are decoded.

Sources: TIFF 6.0; OME-TIFF specification 6.3; ImageJ 1.54, TiffDecoder.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.io.microscopy import notes, planes
from terrazzo.io.microscopy.extras import import_reader
from terrazzo.io.microscopy.image import (
    RGB,
    MicroscopeImage,
    UnknownPlanesError,
    Window,
    keep_alone,
    named,
    reading,
    refuse_large_block,
    refuse_many_bands,
)

_AXES = {"Z": "z", "T": "t"}
_KEPT_BYTES = 64 << 20  # of decoded tiles, so that the next window finds them
_UNCOMPRESSED = 1
_OF_SLICE = re.compile(r"\b[czt]:\d+/\d+|\.\w{3,4}$", re.IGNORECASE)
_COLOURS = (2, 6)  # of PhotometricInterpretation: RGB, and YCbCr, which is decoded to it
_ALPHA = (1, 2)  # of ExtraSamples: associated and not
_PHOTOMETRIC = {0: "white is zero", 1: "black is zero", 2: "RGB", 6: "YCbCr", 32803: "CFA"}
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 34926, 50000, 50013)
"""Compressions: none, LZW, deflate, PackBits, LZMA, Zstandard."""
_MOST_SERIES = 1000


def open_tiff(path: Path) -> MicroscopeImage:
    """Open a TIFF of several pages.

    Raises:
        ConfigError: SEG-X135 tifffile or imagecodecs is not installed.
        UnknownPlanesError: what the pages are is not known.
        DataError: SEG-D041 a plane that nobody chose; SEG-D129 the
            plane is not there; SEG-D130 pixels in other files; SEG-D011 damaged; SEG-D019 palettes;
            SEG-D031 tiles that are too large.
    """
    tifffile = import_reader("tifffile", path)
    with reading(path):
        tiff = tifffile.TiffFile(Path(str(path)))
        try:
            return _look_at(path, tiff)
        except BaseException:
            tiff.close()
            raise
    raise AssertionError  # the context above swallows nothing


def _look_at(path: Path, tiff: Any) -> MicroscopeImage:
    description = tiff.pages.first.description
    notes.refuse_other_files(path, description)
    if notes.is_ome(description) and not notes.tells_sizes(description):
        msg = "an OME description that is not sound"
        raise UnknownPlanesError(msg)
    number, series = _series(path, tiff)
    _refuse_lost_planes(description, series)
    _refuse_loose_levels(series)
    page = series.keyframe
    inner = len(page.axes)
    outer = dict(zip(series.axes[:-inner], series.shape[:-inner], strict=True))
    strange = [axis for axis, size in outer.items() if axis not in (*_AXES, "C", "S") and size > 1]
    if series.axes[-inner:] != page.axes or strange or page.imagedepth > 1:
        msg = f"axes {series.axes} of {'×'.join(map(str, series.shape))}"
        raise UnknownPlanesError(msg)
    _refuse_kind(path, page)
    sizes = {_AXES[axis]: size for axis, size in outer.items() if axis in _AXES}
    chosen = planes.choose(path, {**sizes, "series": len(tiff.series)})
    position = {axis: chosen[_AXES[axis]] for axis in outer if axis in _AXES}
    samples, channels = page.samplesperpixel, outer.get("C", 1) * outer.get("S", 1)
    if samples > 1 and channels > 1:
        msg = f"{channels} channels of {samples} samples each"
        raise UnknownPlanesError(msg)
    refuse_many_bands(path, max(samples, channels))
    pages = _pages(path, tiff, series, _numbers(outer, position, channels))
    alpha = _alpha(page) if channels == 1 else ()
    bands = max(samples, channels) - len(alpha)
    return MicroscopeImage(
        page.imagelength,
        page.imagewidth,
        page.dtype.name,
        _names(path, tiff, number, page, bands),
        pages.read,
        pages.block,
        notes.sides_told(description, _resolution(page, "X"), _resolution(page, "Y"), number),
        alpha,
        white_is_zero=int(page.photometric) == 0,
        no_mask=""
        if int(page.compression) in _LOSSLESS
        else f"{page.compression.name} compression, which may lose something",
        close=tiff.close,
    )


def _series(path: Path, tiff: Any) -> tuple[int, Any]:
    """Return the one series of a file, or the chosen one, and its number."""
    found = tiff.series
    if not found or len(found) > _MOST_SERIES:
        msg = f"{len(found)} images"
        raise UnknownPlanesError(msg)
    # One that is not there is refused with the other axes.
    number = min(planes.plane_of(path).get("series", 0), len(found) - 1)
    return number, found[number]


def _refuse_lost_planes(description: str, series: Any) -> None:
    """Refuse a stack of ImageJ of which planes are not in the file."""
    told = notes.imagej_notes(description).get("images", "1")
    planes_there = math.prod(series.shape[: -len(series.keyframe.axes)])
    if told.isdecimal() and int(told) > planes_there:
        msg = f"{told} planes, of which {planes_there} are there"
        raise UnknownPlanesError(msg)


def _refuse_loose_levels(series: Any) -> None:
    """Refuse pages that tifffile takes for levels by their size alone, unless they are tiled.

    A mask of half the size behind a picture is no level; nobody writes one in tiles.
    """
    loose = [
        level.keyframe
        for level in series.levels[1:]
        if not (level.keyframe.is_reduced or level.keyframe.is_subifd)
    ]
    if loose and not all(page.is_tiled for page in (series.keyframe, *loose)):
        msg = "pages of which nothing says that they are levels of a pyramid"
        raise UnknownPlanesError(msg)


def _refuse_kind(path: Path, page: Any) -> None:
    photometric = int(page.photometric)
    if photometric not in _PHOTOMETRIC or page.dtype is None or page.dtype.kind not in "uifb":
        raise DataError(
            "SEG-D019",
            "this kind of pixel is not read in a TIFF of several pages",
            file=path,
            observed=f"{getattr(page.photometric, 'name', photometric)}, {page.dtype}",
            allowed=", ".join(_PHOTOMETRIC.values()),
            next_step="write the file with grey or RGB pixels",
        )


def _numbers(outer: dict[str, int], position: dict[str, int], channels: int) -> list[int]:
    """Return the pages of a series that hold the channels of one plane."""
    if not outer:
        return [0]
    places = [
        [position.get(axis, channel if size > 1 else 0) for axis, size in outer.items()]
        for channel in range(channels)
    ]
    return [int(np.ravel_multi_index(place, tuple(outer.values()))) for place in places]


def _alpha(page: Any) -> tuple[int, ...]:
    """Return the numbers of the samples of a pixel that say whether it counts."""
    first = page.samplesperpixel - len(page.extrasamples)
    return tuple(
        first + at + 1 for at, kind in enumerate(map(int, page.extrasamples)) if kind in _ALPHA
    )


def _names(path: Path, tiff: Any, number: int, page: Any, bands: int) -> tuple[str, ...]:
    description = tiff.pages.first.description
    if int(page.photometric) in _COLOURS and bands == len(RGB) and page.samplesperpixel >= bands:
        return RGB
    if notes.is_ome(description):
        return notes.channel_names(description, bands, number)
    return named(_imagej_labels(path, tiff, bands), bands)


def _imagej_labels(path: Path, tiff: Any, bands: int) -> list[str | None]:
    """Return ImageJ's labels of the channels where they name channels.

    They name slices as well, and after the file: such names would be others in every image.
    """
    labels = (tiff.imagej_metadata or {}).get("Labels")
    if not isinstance(labels, list) or len(labels) < bands or len(labels) % bands:
        return []
    by_channel = [set(labels[band::bands]) for band in range(bands)]
    told = [next(iter(names)) if len(names) == 1 else None for names in by_channel]
    stem = re.escape(path.name.partition(".")[0])
    of_file = re.compile(rf"{stem}(\W|_|$)", re.IGNORECASE)
    return [
        name
        if isinstance(name, str) and not (_OF_SLICE.search(name) or of_file.match(name))
        else None
        for name in told
    ]


def _resolution(page: Any, axis: str) -> str | None:
    """Return pixels per unit along an axis, as text."""
    tag = page.tags.get(f"{axis}Resolution")
    fraction = None if tag is None else tag.value
    if not isinstance(fraction, tuple) or len(fraction) != 2 or not fraction[1]:
        return None
    return str(fraction[0] / fraction[1])


def _pages(path: Path, tiff: Any, series: Any, numbers: Sequence[int]) -> _Pages | _Mapped:
    page = series.keyframe
    if series.dataoffset is not None:
        stored = np.dtype(tiff.byteorder + series.dtype.char)
        shape = (series.size // math.prod(page.shape), *page.shape)
        pixels = np.memmap(Path(str(path)), stored, "r", series.dataoffset, shape)
        return _Mapped(pixels, page.axes, numbers)
    if int(page.compression) != _UNCOMPRESSED:
        import_reader("imagecodecs", path)
    pages = [series.pages[number] for number in numbers]
    if any(each is None for each in pages):
        raise _unwritten(path)
    height = page.tilelength or min(page.rowsperstrip or page.imagelength, page.imagelength)
    block = int(height), int(page.tilewidth or page.imagewidth)
    per_block = page.samplesperpixel if int(page.planarconfig) == 1 else 1
    size = math.prod(block) * per_block * page.dtype.itemsize
    refuse_large_block(path, f"blocks of {block[0]}×{block[1]} px", size)
    return _Pages(path, tiff.filehandle, pages, block)


def _unwritten(path: Path) -> DataError:
    return DataError(
        "SEG-D029",
        "part of the image was never written",
        file=path,
        observed="a plane or tile without pixels",
        next_step="write the file again",
    )


@dataclass
class _Mapped:
    """Planes that lie in the file as they are: nothing is decoded.

    Attributes:
        pixels: planes of the series, one after the other, in the byte order of the file.
        axes: of a plane.
        numbers: of the planes that hold the channels.
    """

    pixels: NDArray[Any]
    axes: str
    numbers: Sequence[int]

    @property
    def block(self) -> tuple[int, int]:
        """Return rows and columns that lie together: a row."""
        return 1, self.pixels.shape[1 + self.axes.index("X")]

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[Any]:
        """Return H×W×C of some bands."""
        row, column, rows, columns = window
        place = slice(row, row + rows), slice(column, column + columns)
        if self.axes == "YX":
            planes_ = [self.pixels[self.numbers[band]][place] for band in bands]
        else:
            plane = self.pixels[self.numbers[0]]
            by_band = np.moveaxis(plane, self.axes.index("S"), 0)
            planes_ = [by_band[band][place] for band in bands]
        return _native(np.stack(planes_, axis=2))


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


@dataclass(eq=False)
class _Pages:
    """Planes of which tiles or strips are decoded as windows touch them.

    Attributes:
        path: the file.
        file: tifffile's handle.
        pages: one for each channel, or one whose samples are the bands.
        block: rows and columns of a tile or strip.
        decoded: of blocks, those read last.
        kept: bytes of these.
    """

    path: Path
    file: Any
    pages: Sequence[Any]
    block: tuple[int, int]
    decoded: OrderedDict[tuple[int, int], NDArray[Any]] = field(default_factory=OrderedDict)
    kept: int = 0

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[Any]:
        """Return H×W×C of some bands.

        Raises:
            DataError: SEG-D011, SEG-D029.
        """
        keep_alone(self)
        dtype = self.pages[0].keyframe.dtype
        out_HWC = np.empty((window[2], window[3], len(bands)), dtype)
        with reading(self.path):
            for at, band in enumerate(bands):
                self._read_band(window, band, out_HWC[..., at])
        return out_HWC

    def forget(self) -> None:
        """Let go of decoded blocks."""
        self.decoded.clear()
        self.kept = 0

    def _read_band(self, window: Window, band: int, out_HW: NDArray[Any]) -> None:
        number = band if len(self.pages) > 1 else 0
        page = self.pages[number].keyframe
        sample = 0 if len(self.pages) > 1 else band
        rows, columns = self.block
        across = -(-page.imagewidth // columns)
        separate = page.samplesperpixel > 1 and int(page.planarconfig) == 2
        first = sample * -(-page.imagelength // rows) * across if separate else 0
        top, left, height, width = window
        for y in range(top // rows, -(-(top + height) // rows)):
            for x in range(left // columns, -(-(left + width) // columns)):
                block_HWC = self._block(number, first + y * across + x)
                block_HW = block_HWC[..., 0 if separate else sample]
                y0, x0 = max(top, y * rows), max(left, x * columns)
                y1 = min(top + height, y * rows + block_HW.shape[0])
                x1 = min(left + width, x * columns + block_HW.shape[1])
                out_HW[y0 - top : y1 - top, x0 - left : x1 - left] = block_HW[
                    y0 - y * rows : y1 - y * rows, x0 - x * columns : x1 - x * columns
                ]

    def _block(self, number: int, index: int) -> NDArray[Any]:
        """Return a tile or strip, H×W×S, decoded or remembered."""
        key = (number, index)
        found = self.decoded.get(key)
        if found is not None:
            self.decoded.move_to_end(key)
            return found
        page = self.pages[number]
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if size == 0:
            raise _unwritten(self.path)
        self.file.seek(offset)
        data = self.file.read(size)
        if len(data) < size:
            msg = f"{size} bytes of a block at byte {offset}, of which {len(data)} are there"
            raise EOFError(msg)
        segment, _, shape = page.decode(
            data, index, jpegtables=page.jpegtables, jpegheader=page.keyframe.jpegheader
        )
        if segment is None:
            raise _unwritten(self.path)
        _, height, width, _ = shape
        block_HWC: NDArray[Any] = segment[0, :height, :width]
        self.decoded[key] = block_HWC
        self.kept += block_HWC.nbytes
        while self.kept > _KEPT_BYTES and len(self.decoded) > 1:
            self.kept -= self.decoded.popitem(last=False)[1].nbytes
        return block_HWC
