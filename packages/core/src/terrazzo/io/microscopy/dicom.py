"""DICOM files: one image, or one frame of several, read by pydicom.

Stored values become modality values (rescale slope and intercept, modality LUT); MONOCHROME1 is
inverted, so that 0 is dark as everywhere else; the window that viewers apply is not.

Source: DICOM PS3.3, C.7.6.3 (image pixel), C.11.1 (modality LUT), C.7.6.3.1.2 (photometric).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.io.microscopy import planes
from terrazzo.io.microscopy.extras import import_reader
from terrazzo.io.microscopy.image import (
    RGB,
    MicroscopeImage,
    Window,
    keep_alone,
    named,
    reading,
    refuse_large_block,
)

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_PALETTE = "PALETTE COLOR"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MILLIMETRE = 1e-3


def open_dicom(path: Path) -> MicroscopeImage:
    """Open a DICOM file.

    Raises:
        ConfigError: SEG-X135 pydicom is not installed.
        DataError: SEG-D011 damaged; SEG-D012 no DICOM, or none with an image; SEG-D019 a kind of
            pixel that is not read; SEG-D041 several frames; SEG-D129 the plane is not there;
            SEG-D132 a compression that is not decoded; SEG-D031 a frame that is too large.
    """
    pydicom = import_reader("pydicom", path)
    with reading(path):
        try:
            header = _header(path, pydicom)
        except pydicom.errors.InvalidDicomError as error:
            raise _no_image(path, str(error)) from None
        return _look_at(path, pydicom, header)
    raise AssertionError  # the context above swallows nothing


def _header(path: Path, pydicom: Any) -> Any:
    plain = Path(str(path))
    meta = pydicom.filereader.read_file_meta_info(plain)
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if syntax == _DEFLATED:  # all of the file would be inflated, to any size, to see its header
        raise _compressed(path, pydicom, syntax, "none here: decompress it first")
    return pydicom.dcmread(plain, stop_before_pixels=True)


def _look_at(path: Path, pydicom: Any, header: Any) -> MicroscopeImage:
    if "Rows" not in header or "PhotometricInterpretation" not in header:
        raise _no_image(path, str(header.get("Modality", "no rows and columns")))
    rows, columns = int(header.Rows), int(header.Columns)
    kind = str(header.PhotometricInterpretation)
    samples = int(header.get("SamplesPerPixel", 1))
    frames = int(header.get("NumberOfFrames") or 1)
    frame = planes.choose(path, {"frame": frames})["frame"]
    bits = int(header.get("BitsAllocated", 0))
    fits = (samples == 1 and kind in (*_GREY, _PALETTE)) or (samples == 3 and kind in _COLOURS)
    if not fits or bits not in (8, 16, 32) or min(rows, columns) < 1:
        raise _not_read(path, f"{kind}, {samples} samples of {bits} bits, {rows}×{columns} px")
    if kind == "MONOCHROME1" and "ModalityLUTSequence" in header:
        raise _not_read(path, "MONOCHROME1 with a modality LUT")
    refuse_large_block(
        path, f"a frame of {rows}×{columns} px", rows * columns * samples * bits // 8
    )
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        _refuse_undecoded(path, pydicom, syntax)
    pixels = _Frame(path, pydicom, frame)
    bands = 1 if kind in _GREY else len(RGB)
    return MicroscopeImage(
        rows,
        columns,
        _dtype(header, kind),
        RGB if bands > 1 else named([], 1),
        pixels.read,
        (rows, columns),
        _sides(header),
        no_mask="a DICOM file, whose numbers are taken through slope, tables and inversion",
    )


def _dtype(header: Any, kind: str) -> str:
    """Return what `_Frame.read` makes of the stored numbers."""
    if kind == _PALETTE:
        return "uint8"
    if kind in _GREY and _is_rescaled(header):
        return "float32"
    return f"{'int' if int(header.get('PixelRepresentation', 0)) else 'uint'}{header.BitsAllocated}"


def _is_rescaled(header: Any) -> bool:
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    rescaled = (slope is not None and float(slope) != 1) or float(intercept or 0) != 0
    return rescaled or "ModalityLUTSequence" in header


@dataclass(eq=False)
class _Frame:
    """One frame, decoded when a window is first read.

    Attributes:
        path: the file.
        pydicom: the package.
        number: of the frame, from 0.
        decoded: H×W×C.
    """

    path: Path
    pydicom: Any
    number: int
    decoded: NDArray[Any] | None = None

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[Any]:
        """Return H×W×C of some bands."""
        keep_alone(self)
        row, column, rows, columns = window
        with reading(self.path):
            if self.decoded is None:
                self.decoded = self._decode()
            part = self.decoded[row : row + rows, column : column + columns, list(bands)]
            return np.ascontiguousarray(part)
        raise AssertionError  # the context above swallows nothing

    def forget(self) -> None:
        """Let go of the decoded frame."""
        self.decoded = None

    def _decode(self) -> NDArray[Any]:
        data = self.pydicom.dcmread(Path(str(self.path)))
        if "PixelData" not in data:
            raise _no_image(self.path, "no pixel data of whole numbers")
        # YCbCr comes as RGB, and planes side by side.
        stored = self.pydicom.pixels.pixel_array(data, index=self.number)
        kind = str(data.PhotometricInterpretation)
        if kind == _PALETTE:
            colours_HWC = self.pydicom.pixels.apply_color_lut(stored, data)
            wide = colours_HWC.dtype.itemsize > 1
            return np.asarray(colours_HWC >> 8 if wide else colours_HWC).astype(np.uint8)
        if kind in _COLOURS:
            return np.asarray(stored)
        if kind == "MONOCHROME1":
            stored = _inverted(stored, int(data.BitsStored))
        if _is_rescaled(data):
            stored = self.pydicom.pixels.apply_modality_lut(stored, data).astype(np.float32)
        return np.asarray(stored)[..., None]


def _inverted(stored_HW: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return numbers with the ends of their range swapped."""
    if stored_HW.dtype.kind == "i":
        inverted_HW: NDArray[Any] = -1 - stored_HW
        return inverted_HW
    largest = stored_HW.dtype.type((1 << bits) - 1)
    swapped_HW: NDArray[Any] = largest - stored_HW
    return swapped_HW


def _sides(header: Any) -> tuple[float, float] | None:
    """Return width and height of a pixel of the patient or specimen."""
    spacing = header.get("PixelSpacing")
    if spacing is None:
        shared = header.get("SharedFunctionalGroupsSequence") or [{}]
        measures = shared[0].get("PixelMeasuresSequence") or [{}]
        spacing = measures[0].get("PixelSpacing")
    if spacing is None or len(spacing) != 2:
        return None
    down, across = map(float, spacing)
    if not (0 < down < 1e6 and 0 < across < 1e6):
        return None
    return across * _MILLIMETRE, down * _MILLIMETRE


def _refuse_undecoded(path: Path, pydicom: Any, syntax: Any) -> None:
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise _compressed(path, pydicom, str(syntax), "nothing that pydicom knows") from None
    if not decoder.is_available:
        helps = "; ".join(decoder.missing_dependencies)
        raise _compressed(path, pydicom, str(syntax), helps)


def _compressed(path: Path, pydicom: Any, syntax: str, helps: str) -> DataError:
    return DataError(
        "SEG-D132",
        "the compression of the DICOM file is not decoded",
        file=path,
        observed=f"transfer syntax {pydicom.uid.UID(syntax).name} ({syntax}); what decodes it: "
        f"{helps}"[:400],
        allowed="uncompressed and RLE; others with the packages that pydicom asks for",
        next_step="pip install one of these packages, or decompress the file, e.g. "
        "`gdcmconv --raw IN OUT`",
    )


def _no_image(path: Path, observed: str) -> DataError:
    return DataError(
        "SEG-D012",
        "the file is no DICOM file with an image",
        file=path,
        observed=observed[:300],
        allowed="a DICOM file (Part 10) with rows, columns and pixel data",
        next_step="export the image itself; a directory (DICOMDIR) or a report holds none",
    )


def _not_read(path: Path, observed: str) -> DataError:
    return DataError(
        "SEG-D019",
        "this kind of pixel is not read",
        file=path,
        observed=observed,
        allowed=f"{', '.join((*_GREY, _PALETTE, *_COLOURS))} of 8, 16 or 32 bits",
        next_step="export the image as 16-bit PNG or TIFF",
    )
