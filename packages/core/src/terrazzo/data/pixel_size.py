"""How large pixels are that a model was trained on, and those that it shall see.

On the ground, or physically where a microscope noted it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from terrazzo.data import ground
from terrazzo.io.raster_formats import is_raster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from terrazzo.data.datasets import Split
    from terrazzo.io.rasters import RasterInfo

Range = tuple[float, float]
"""The smallest and the largest."""

_MOST_FILES = 64  # whose headers are read: enough to know a data set
_MILLIMETRE = 1e-3  # shorter lengths are written in µm


@runtime_checkable
class OnGrids(Protocol):
    """A `terrazzo.data.datasets.Source` whose images are read on grids that it knows."""

    def grid(self, index: int) -> RasterInfo:
        """Return the grid of the scene of an image."""
        ...


@dataclass(frozen=True, slots=True)
class PixelSizes:
    """Width and height of pixels, in metres, each by itself.

    Attributes:
        width: the smallest and the largest.
        height: the smallest and the largest.
    """

    width: Range
    height: Range

    @classmethod
    def square(cls, smallest: float, largest: float) -> PixelSizes:
        """Return the sizes of pixels that are as high as they are wide."""
        return cls((smallest, largest), (smallest, largest))

    @classmethod
    def of_pixels(cls, sides: Iterable[tuple[float, float]]) -> PixelSizes:
        """Return the sizes of pixels from the width and height of each, of at least one."""
        widths, heights = zip(*sides, strict=True)
        return cls((min(widths), max(widths)), (min(heights), max(heights)))

    def within(self, other: PixelSizes, tolerance: float) -> bool:
        """Tell whether no side is more than `tolerance` times larger or smaller than of `other`."""
        pairs = ((self.width, other.width), (self.height, other.height))
        return all(
            theirs[0] / tolerance <= ours[0] and ours[1] <= theirs[1] * tolerance
            for ours, theirs in pairs
        )

    def __str__(self) -> str:
        width, height = (length_text(*sides) for sides in (self.width, self.height))
        return width if width == height else f"{width} wide, {height} high"


def length_text(smallest: float, largest: float) -> str:
    """Write a length, or the two ends of a range, both in metres: in µm where below 1 mm."""
    unit, metres = ("µm", 1e-6) if largest < _MILLIMETRE else ("m", 1.0)
    figures = dict.fromkeys(f"{length / metres:.4g}" for length in (smallest, largest))
    return f"{' to '.join(figures)} {unit}"


def pixel_sizes(split: Split) -> PixelSizes | None:
    """Return the pixel sizes in a data set's TIFF images; None if none tells."""
    return _sizes(split, ground.pixel_sides)


def pixel_sizes_on_map(split: Split) -> PixelSizes | None:
    """Return the pixel sizes in a data set's TIFF images as their maps have them, in metres.

    A map stretches, so these are not those on the ground. None if none lies on a map in metres.
    """
    return _sizes(split, ground.sides_on_map)


def _sizes(
    split: Split, sides_of: Callable[[RasterInfo], tuple[float, float] | None]
) -> PixelSizes | None:
    source = split.source
    # Of each first file one image: the file itself may have other pixels than the images read.
    files = {source.files(index)[0]: index for index in reversed(range(len(split)))}
    all_rasters = isinstance(source, OnGrids)
    found = sorted(index for path, index in files.items() if all_rasters or is_raster(path))
    if not found:
        return None
    from terrazzo.io import rasters  # GDAL only where there are GeoTIFF files

    step = -(-len(found) // _MOST_FILES)
    sides = [
        sides_of(
            source.grid(index)
            if isinstance(source, OnGrids)
            else rasters.info(source.files(index)[0])
        )
        for index in found[::step]
    ]
    known = [each for each in sides if each is not None]
    return PixelSizes.of_pixels(known) if known else None
