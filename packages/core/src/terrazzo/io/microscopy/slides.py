"""Whole slides, read by OpenSlide: windows of the finest level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.io.microscopy import planes
from terrazzo.io.microscopy.extras import import_reader
from terrazzo.io.microscopy.image import RGB, MicroscopeImage, Window, keep_alone, reading

_MICROMETRE = 1e-6
_BLOCK = 256
_MOST_SIDE = 1 << 24
_OPAQUE = 255


def open_slide(path: Path) -> MicroscopeImage:
    """Open a whole slide.

    Raises:
        ConfigError: SEG-X135 openslide is not installed.
        DataError: SEG-D129 a plane other than the first; SEG-D133 OpenSlide does not open it.
    """
    openslide = import_reader("openslide", path)
    planes.choose(path, {})
    name = str(path)
    with reading(path):
        vendor = openslide.OpenSlide.detect_format(name)
        if vendor is None:
            raise _refused(path, "of no vendor that OpenSlide knows")
        try:
            slide = openslide.OpenSlide(name)
        except openslide.OpenSlideError as error:
            raise _refused(path, str(error)) from None
        columns, rows = slide.level_dimensions[0]
        if not 0 < min(rows, columns) <= max(rows, columns) <= _MOST_SIDE:
            slide.close()
            raise _refused(path, f"{rows} rows × {columns} columns")
        pixels = _Pixels(path, slide)
        return MicroscopeImage(
            rows,
            columns,
            "uint8",
            RGB,
            pixels.read,
            _block(slide.properties),
            _sides(slide.properties),
            read_mask=pixels.read_mask,
            no_mask="a whole slide, whose compression may lose something",
            close=slide.close,
        )
    raise AssertionError  # the context above swallows nothing


@dataclass(eq=False)
class _Pixels:
    """The finest level of a slide.

    Attributes:
        path: the file.
        slide: OpenSlide's.
        last: the window read last, red, green, blue and alpha: its mask is asked for as well.
    """

    path: Path
    slide: Any
    last: tuple[Window, NDArray[np.uint8]] | None = None

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[Any]:
        """Return H×W×C of some of red, green and blue; 0 where nothing was scanned."""
        rgba_HWC = self._window(window)
        return np.ascontiguousarray(rgba_HWC[..., list(bands)])

    def read_mask(self, window: Window) -> NDArray[np.bool_]:
        """Return H×W bool, False where nothing was scanned."""
        scanned_HW: NDArray[np.bool_] = self._window(window)[..., 3] == _OPAQUE
        return scanned_HW

    def forget(self) -> None:
        """Let go of the last window."""
        self.last = None

    def _window(self, window: Window) -> NDArray[np.uint8]:
        keep_alone(self)
        if self.last is None or self.last[0] != window:
            row, column, rows, columns = window
            with reading(self.path):
                region = self.slide.read_region((column, row), 0, (columns, rows))
                self.last = window, np.asarray(region)
        return self.last[1]


def _block(properties: Mapping[str, str]) -> tuple[int, int]:
    """Return rows and columns of the tiles of the finest level."""
    told = [properties.get(f"openslide.level[0].tile-{side}", "") for side in ("height", "width")]
    rows, columns = (int(text) if text.isdecimal() and int(text) else _BLOCK for text in told)
    return rows, columns


def _sides(properties: Mapping[str, str]) -> tuple[float, float] | None:
    try:
        across, down = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    if not (0 < across < 1e6 and 0 < down < 1e6):
        return None
    return across * _MICROMETRE, down * _MICROMETRE


def _refused(path: Path, observed: str) -> DataError:
    return DataError(
        "SEG-D133",
        "OpenSlide does not open the slide",
        file=path,
        observed=observed[:300],
        allowed="Aperio, Hamamatsu, Leica, MIRAX, Philips, Sakura, Trestle, Ventana",
        next_step="copy the file again, with the folder or files that belong to it; or export it "
        "as OME-TIFF",
    )
