"""Files of microscopes as the data sets of rasterio that the rest of this package reads."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from terrazzo.io.microscopy import notes
from terrazzo.io.microscopy.dicom import open_dicom
from terrazzo.io.microscopy.image import MicroscopeImage
from terrazzo.io.microscopy.ome_zarr import open_zarr
from terrazzo.io.microscopy.slides import open_slide
from terrazzo.io.microscopy.tiff_stacks import open_tiff
from terrazzo.io.raster_formats import DICOM_SUFFIXES, SLIDE_SUFFIXES, ZARR_SUFFIX
from terrazzo.io.rasters import tiff_kinds
from terrazzo.io.remote_paths import MemoryPath, RemotePath

DRIVER = "microscope"
"""Stands where others have the name of GDAL's driver."""
DICOM, SLIDE, ZARR, STACK = "DICOM", "slide", "OME-Zarr", "TIFF stack"

OPENERS: Mapping[str, Callable[[Path], MicroscopeImage]] = {
    DICOM: open_dicom,
    SLIDE: open_slide,
    ZARR: open_zarr,
    STACK: open_tiff,
}


def kind_of(path: Path) -> str | None:
    """Return which of `OPENERS` opens a file by its suffix; None: none of them."""
    if isinstance(path, RemotePath | MemoryPath):
        return None
    name = str(path).lower()
    if name.endswith(DICOM_SUFFIXES):
        return DICOM
    if name.endswith(SLIDE_SUFFIXES):
        return SLIDE
    return ZARR if name.endswith(ZARR_SUFFIX) else None


def is_stack(path: Path, dataset: Any) -> bool:
    """Tell whether a TIFF has several pages, of which GDAL hands out the first one alone.

    One in memory, as a server is sent, is none here: it is refused.
    """
    return not isinstance(path, RemotePath | MemoryPath) and (
        tiff_kinds.count_planes(notes.description_of(path, dataset), dataset) > 1
    )


@dataclass(eq=False)
class MicroscopeDataset:
    """What this package asks of a data set of rasterio, answered by a microscope's file.

    Attributes:
        path: the file.
        image: open.
    """

    path: Path
    image: MicroscopeImage
    crs: None = None
    rpcs: None = None
    nodata: None = None
    driver: str = DRIVER
    gcps: tuple[list[Any], None] = ([], None)

    def __post_init__(self) -> None:
        # Handles are let go when their thread ends, as GDAL's are.
        self._closing = weakref.finalize(self, self.image.close)

    @property
    def transform(self) -> Affine:
        """None: coordinates are pixels."""
        return Affine.identity()

    @property
    def height(self) -> int:
        """Rows."""
        return self.image.rows

    @property
    def width(self) -> int:
        """Columns."""
        return self.image.columns

    @property
    def count(self) -> int:
        """Bands, those of alpha among them."""
        return len(self.image.band_names) + len(self.image.alpha_bands)

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands."""
        return tuple(range(1, self.count + 1))

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Of each band."""
        return (self.image.dtype,) * self.count

    @property
    def descriptions(self) -> tuple[None, ...]:
        """None: names are those of the image."""
        return (None,) * self.count

    @property
    def colorinterp(self) -> tuple[ColorInterp, ...]:
        """What bands are."""
        return tuple(
            ColorInterp.alpha if number in self.image.alpha_bands else ColorInterp.undefined
            for number in self.indexes
        )

    @property
    def files(self) -> list[str]:
        """The file itself."""
        return [str(self.path)]

    def tags(self, _: int = 0, ns: str | None = None) -> dict[str, str]:
        """Return words about the file: why it cannot be a mask."""
        if ns == "IMAGE_STRUCTURE" and self.image.no_mask:
            return {tiff_kinds.NO_MASK: self.image.no_mask}
        return {}

    def read(self, indexes: Sequence[int], window: Any, out: NDArray[Any]) -> None:
        """Read bands into C×H×W."""
        values_HWC = self.image.read(_place(window), [number - 1 for number in indexes])
        out[...] = np.moveaxis(values_HWC, 2, 0)

    def read_masks(self, _: int, window: Any) -> NDArray[np.uint8]:
        """Return H×W, 255 where something was scanned."""
        assert self.image.read_mask is not None
        return self.image.read_mask(_place(window)).astype(np.uint8) * np.uint8(255)

    def close(self) -> None:
        """Close the file."""
        self._closing()


def _place(window: Any) -> tuple[int, int, int, int]:
    return (
        int(window.row_off),
        int(window.col_off),
        int(window.height),
        int(window.width),
    )
