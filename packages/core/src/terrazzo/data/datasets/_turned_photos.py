"""Photos that are to be turned on display: which way the shapes of a labelling tool mean.

A camera writes pixels as its sensor lies and says by the Exif tag Orientation how to turn them.
Some tools draw on the picture as it is displayed, others on the pixels as they are stored; which
of them, the rows and columns that the file of shapes states tell, where they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._pairing import Pair
from terrazzo.io import images
from terrazzo.io.annotations.shapes import AnnotatedImage
from terrazzo.io.raster_formats import is_raster

Load = Callable[[tuple[int, int]], AnnotatedImage]
"""Reads the shapes of one image; is given its rows and columns."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Shapes, and the picture that they mean.

    Attributes:
        annotated: the shapes.
        size: rows and columns of that picture.
        orientation: the Exif orientation by which the stored pixels are turned; 1: they are not,
            whatever their tag says. None: no tag was found, and there must be none.
    """

    annotated: AnnotatedImage
    size: tuple[int, int]
    orientation: int | None = None


def place_shapes(pair: Pair, load: Load) -> Placed:
    """Read the shapes of an image, and decide which picture they mean.

    Raises:
        DataError: SEG-D114, it is to be turned on display, and nothing tells what they mean.
    """
    stored, orientation = _size_of(pair.image)
    annotated = load(stored)
    if orientation == 1:
        return Placed(annotated, stored)
    if orientation in images.ORIENTATIONS:
        upright = stored[::-1] if orientation in images.SWAPPING else stored
        fits_both = annotated.size is None or annotated.size == stored == upright
        if annotated.size == upright != stored or (fits_both and annotated.is_displayed):
            return Placed(load(upright), upright, orientation)
        if annotated.size == stored != upright:
            return Placed(annotated, stored, 1)
    raise _undecided(pair, stored, orientation, annotated.size)


def _size_of(path: Path) -> tuple[tuple[int, int], int]:
    """Return rows and columns of an image as they are stored, and its Exif orientation."""
    if is_raster(path):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        info = rasters.info(path)
        return (info.rows, info.columns), 1
    return images.stored_size(path)


def _undecided(
    pair: Pair, size: tuple[int, int], orientation: int, stated: tuple[int, int] | None
) -> DataError:
    upright = size[::-1] if orientation in images.SWAPPING else size
    turn = "turn its pixels and drop the tag: `mogrify -auto-orient FILE`"
    keep = "drop the tag and keep the pixels: `exiftool -Orientation= FILE`"
    if stated is not None and stated not in (size, upright):
        told = "those of neither the stored nor the displayed picture"
    else:
        told = "no help: they fit the picture as it is stored and as it is displayed"
    shown = "no size" if stated is None else f"{stated[0]}×{stated[1]}"
    return DataError(
        "SEG-D114",
        "the image is to be turned on display, and nothing tells which way its shapes mean",
        file=pair.image,
        observed=f"Exif tag Orientation (0x0112) = {orientation}, stored {size[0]}×{size[1]} "
        f"(rows×columns), displayed {upright[0]}×{upright[1]}; {pair.mask.name} states {shown}: "
        f"{told}",
        allowed="orientation 1, no such tag, or rows and columns that differ and tell it",
        next_step=f"look at both: where the shapes lie right on the display, {turn}; else {keep}",
    )
