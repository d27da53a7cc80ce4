"""Bands of a file of their own that say which pixels of a scene count."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terrazzo.io.rasters.handles import handle
from terrazzo.io.rasters.header import RasterInfo


class MaskRule(NamedTuple):
    """Which numbers of a mask take a pixel away; one of the three is set.

    Attributes:
        bits: those where any of these bits is set, counted from 0.
        values: these.
        keep: all but these.
    """

    bits: tuple[int, ...] | None = None
    values: tuple[int, ...] | None = None
    keep: tuple[int, ...] | None = None

    def counts(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where pixels count; never where a mask of floats has NaN.

        Args:
            numbers: of any shape; whole ones where the rule is of bits.
        """
        if self.bits is not None:
            unsigned = numbers.view(f"u{numbers.dtype.itemsize}")
            wanted = sum(1 << bit for bit in set(self.bits))
            clear: NDArray[np.bool_] = (unsigned & unsigned.dtype.type(wanted)) == 0
            return clear
        if self.keep is not None:
            return np.isin(numbers, self.keep)
        taken: NDArray[np.bool_] = np.isin(numbers, self.values or ())
        return ~taken & ~np.isnan(numbers) if numbers.dtype.kind == "f" else ~taken


class MaskPart(NamedTuple):
    """A band of a raster that says which pixels of a scene count.

    Attributes:
        path: a GeoTIFF file.
        band: its number, from 1.
        rule: which of its numbers take a pixel away; so does what the file itself calls no data.
        onto: the grid that it is brought onto, nearest neighbour; outside of it nothing counts.
            None: it lies there.
    """

    path: Path
    band: int
    rule: MaskRule
    onto: RasterInfo | None = None


def mask_band_names(path: Path) -> tuple[str, ...]:
    """Return the names of all bands as they are stored, alpha and palette indices too.

    Raises:
        DataError: as `info`.
    """
    dataset = handle(path, "none").dataset
    told = zip(dataset.indexes, dataset.descriptions, strict=True)
    return tuple(name or f"band {number}" for number, name in told)
