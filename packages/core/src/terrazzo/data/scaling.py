"""The scale and offset by which GeoTIFF files turn their numbers into a quantity.

The same reflectance may be stored as 2000 with the scale 0.0001 or as 0.2: to a model these are two
different images unless the tags are applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from terrazzo.base.errors import DataError
from terrazzo.data.datasets import Split
from terrazzo.io.pixels import Scaling

if TYPE_CHECKING:
    from terrazzo.io.rasters import Part

_MOST_IMAGES = 256  # whose headers are read: enough to know a data set


@runtime_checkable
class OfRasters(Protocol):
    """A `terrazzo.data.datasets.Source` whose images may be rasters."""

    def parts(self, index: int) -> Sequence[Part]:
        """Return the rasters that hold the bands of an image; nothing where it is none."""
        ...


def scaling_of(split: Split) -> Scaling | None:
    """Return scale and offset of each band, of the first raster image; None where there is none."""
    return next((scaling for _, scaling in _scalings(split)), None)


def require_one_scaling(splits: Mapping[str, Split]) -> None:
    """Refuse a data set whose files declare different scales or offsets for one band.

    Raises:
        DataError: SEG-D053, naming two files that differ.
    """
    first: tuple[Path, Scaling] | None = None
    for split in splits.values():
        for path, scaling in _scalings(split):
            if first is None:
                first = path, scaling
            elif scaling != first[1]:
                raise DataError(
                    "SEG-D053",
                    "the images store their values in different scales",
                    file=path,
                    observed=scaling_text(scaling),
                    allowed=f"{scaling_text(first[1])}, as in {first[0]}",
                    next_step="set data.options.apply_scale = true, or write all of them in one "
                    "scale",
                )


def scaling_text(scaling: Scaling) -> str:
    """Return scales and offsets in words, once where all bands have the same."""
    pairs = list(dict.fromkeys(scaling)) if len(set(scaling)) == 1 else list(scaling)
    return ", ".join(f"value × {scale:g} + {offset:g}" for scale, offset in pairs)


def _scalings(split: Split) -> Iterator[tuple[Path, Scaling]]:
    source = split.source
    if not isinstance(source, OfRasters):
        return
    seen: set[tuple[Part, ...]] = set()
    for index in range(0, len(split), -(-len(split) // _MOST_IMAGES)):
        parts = tuple(source.parts(index))
        if not parts or parts in seen:
            continue
        seen.add(parts)
        yield parts[0].path, scaling_of_parts(parts)


def scaling_of_parts(parts: Sequence[Part]) -> Scaling:
    """Return scale and offset of each band of an image."""
    from terrazzo.io import rasters  # GDAL only where there are GeoTIFF files

    found: list[tuple[float, float]] = []
    for part in parts:
        declared = rasters.info(part.path).scaling
        found += declared if part.bands is None else [declared[band] for band in part.bands]
    return tuple(found)
