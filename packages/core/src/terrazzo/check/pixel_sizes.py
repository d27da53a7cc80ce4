"""TIFF images whose pixels are of very different size, on the ground or under a microscope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.check.finding import Finding, Level
from terrazzo.data import ground
from terrazzo.data.datasets import Source
from terrazzo.data.pixel_size import length_text
from terrazzo.io.raster_formats import is_raster
from terrazzo.models.compatibility import PIXEL_SIZE_TOLERANCE


def find(sources: Iterable[Source]) -> Iterator[Finding]:
    """Yield one finding where the largest pixels differ from the smallest more than a model may.

    `terrazzo.models.compatibility` takes any size between the two for one that was trained on.
    """
    files = {
        source.files(index)[0]: None for source in sources for index in range(len(source.names))
    }
    sizes = {file: size for file in files if (size := _size(file)) is not None}
    if not sizes:
        return
    finest, coarsest = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    small, large = sizes[finest], sizes[coarsest]
    if large > PIXEL_SIZE_TOLERANCE * small:
        yield Finding(
            Level.WARNING,
            "SEG-D028",
            "the images of one data set have pixels of very different size",
            str(coarsest),
            f"{length_text(large, large)}, and {length_text(small, small)} in {finest}",
            f"sizes up to {PIXEL_SIZE_TOLERANCE} times apart",
            "resample them to one size (GeoTIFF with `gdalwarp -tr`), or train a model for each; "
            "if all belong together, the model will take scenes of any size between the two",
        )


def _size(file: Path) -> float | None:
    """Return the longer side of a pixel in metres; None where the file does not say."""
    if not is_raster(file):
        return None
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    try:
        sides = ground.pixel_sides(rasters.info(file))
    except DataError:  # found by decoding
        return None
    return None if sides is None else max(sides)
