"""``--min-area``: the smallest patch of a class that a map, or its polygons, shall have."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.data import ground
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo

_SQUARE_METRES = {"m2": 1.0, "ha": 1e4, "km2": 1e6}
_PIXELS = "px"
_WORDS = re.compile(r"\s*([0-9.eE+-]+)\s*([A-Za-z]+[²2]?)\s*")
_LARGEST_SUM = 1 << 62
"""Of the whole numbers that stand for the areas of pixels: so sums do not depend on their order."""


@dataclass(frozen=True, slots=True)
class MinArea:
    """The least area of a patch.

    Attributes:
        number: how much.
        unit: ``px`` for pixels; ``m2``, ``ha`` or ``km2`` on the ground.
    """

    number: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> MinArea:
        """Read words like ``500m2``.

        Raises:
            ConfigError: SEG-X092.
        """
        found = _WORDS.fullmatch(text)
        unit = "" if found is None else found[2].replace("²", "2")
        try:
            number = float("" if found is None else found[1])
        except ValueError:
            number = math.nan
        if unit not in (_PIXELS, *_SQUARE_METRES) or not 0 < number < math.inf:
            raise ConfigError(
                "SEG-X092",
                "--min-area is no area",
                observed=f"--min-area {text}",
                allowed=f"a number above 0 with {_PIXELS}, {', '.join(_SQUARE_METRES)}",
                next_step="write it like --min-area 500m2, 0.5ha or 20px",
            )
        return cls(number, unit)

    def __str__(self) -> str:
        return f"{self.number:g}{self.unit}"

    def refuse_unknown_ground(self, source: Path, size: RasterInfo | None) -> None:
        """Refuse square metres where nothing tells how large pixels are on the ground.

        Args:
            source: what is predicted.
            size: its grid; None for an image that is no GeoTIFF.

        Raises:
            ConfigError: SEG-X093.
        """
        if self.unit == _PIXELS or (size is not None and ground.PixelAreas(size).known):
            return
        raise ConfigError(
            "SEG-X093",
            "--min-area is on the ground, and the image does not say where that is",
            file=source,
            observed=f"--min-area {self}",
            allowed=f"pixels: --min-area 20{_PIXELS}",
            next_step="give it in pixels, or give the file a CRS and a transform",
        )

    def sieved(self, groups: rasters.Groups, size: RasterInfo, nodata: int) -> rasters.Groups:
        """Return a map without smaller patches; see `rasters.sieved`.

        Args:
            groups: labels R×W from the first row to the last, as often as it is called.
            size: of the map, with its place.
            nodata: label of no class.
        """
        if self.unit == _PIXELS:
            least = math.ceil(min(self.number, float(size.rows * size.columns)))
            return rasters.sieved(groups, nodata, least)
        weights = _Weights(size, self.number * _SQUARE_METRES[self.unit])
        return rasters.sieved(groups, nodata, weights.least, size_of_runs=weights.of_runs)


class _Weights:
    """The areas of pixels as whole parts of the least area."""

    def __init__(self, size: RasterInfo, least_m2: float) -> None:
        self._areas, self._least_m2, self._columns = ground.PixelAreas(size), least_m2, size.columns
        self.least = _LARGEST_SUM // (size.rows * size.columns)

    def of_runs(
        self, rows: NDArray[Any], starts: NDArray[Any], stops: NDArray[Any]
    ) -> NDArray[np.int64]:
        """Return the weights of runs that are sorted by their rows."""
        weights = np.empty(len(rows), np.int64)
        bounds = np.flatnonzero(np.diff(rows, prepend=-1, append=-1))
        for begin, end in pairwise(bounds):
            before_W = self._up_to(int(rows[begin]))
            weights[begin:end] = before_W[stops[begin:end]] - before_W[starts[begin:end]]
        return weights

    def _up_to(self, row: int) -> NDArray[np.int64]:
        areas_W = self._areas.row(row, np.zeros(self._columns, bool))
        shares_W = areas_W / self._least_m2
        # Where a projection ends nothing is small; and a pixel that is large enough is no larger.
        shares_W = np.where(np.isfinite(shares_W), np.minimum(shares_W, 1.0), 1.0)
        before_W = np.zeros(self._columns + 1, np.int64)
        np.cumsum(np.rint(shares_W * self.least).astype(np.int64), out=before_W[1:])
        return before_W
