"""An area drawn onto a grid, some rows at a time: no mask of a whole scene is ever held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.rasters.rasterize import boxes_of_rows, inside
from terrazzo.io.rasters.read_vectors import Features

_STRIP = 256
"""Rows that are drawn at once. They begin at multiples of it whatever rows are asked for, so that a
pixel whose centre lies on an edge is rounded to the same side each time."""


@dataclass(frozen=True, eq=False)
class AreaRows:
    """Polygons on a grid; can be sent to other processes.

    Attributes:
        shapes: polygons in the coordinates of the grid.
        grid: of the scene.
    """

    shapes: Features
    grid: RasterInfo

    @classmethod
    def of(cls, shapes: Features, grid: RasterInfo) -> AreaRows:
        """Take polygons apart that belong together, so that each is drawn where it lies alone."""
        parts = [part for each in shapes.geometries for part in _polygons(each)]
        nothing = (None,) * len(parts)
        numbers = tuple(range(len(parts)))
        apart = replace(shapes, geometries=tuple(parts), values=nothing, numbers=numbers)
        return cls(apart, grid)

    def rows(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return which pixels of rows `first` up to `last` have their centre inside, R×W."""
        strips = [
            mask_HW[max(first - top, 0) : last - top]
            for top, mask_HW in self._strips(first // _STRIP * _STRIP, last)
        ]
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    @cached_property
    def filled_rows(self) -> NDArray[np.bool_]:
        """Rows of the grid that hold a pixel of the area."""
        return self._extent[0]

    @cached_property
    def columns(self) -> tuple[int, int]:
        """First column that holds a pixel of the area, and the one after the last; (0, 0): none."""
        filled = np.flatnonzero(self._extent[1])
        return (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the polygons on the grid."""
        return hashlib.sha256(json.dumps(self.shapes.geometries).encode()).hexdigest()

    @cached_property
    def _extent(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        rows = np.zeros(self.grid.rows, bool)
        columns = np.zeros(self.grid.columns, bool)
        for top, mask_HW in self._strips(0, self.grid.rows):
            rows[top : top + len(mask_HW)] = mask_HW.any(axis=1)
            columns |= mask_HW.any(axis=0)
        return rows, columns

    def _strips(self, first: int, last: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        for top in range(first, last, _STRIP):
            rows = min(_STRIP, self.grid.rows - top)
            yield top, self._draw(top, rows)

    def _draw(self, top: int, rows: int) -> NDArray[np.bool_]:
        rows_N2, on_grid_N = self._boxes
        here = on_grid_N & (rows_N2[:, 1] >= top) & (rows_N2[:, 0] <= top + rows)
        if not here.any():
            return np.zeros((rows, self.grid.columns), bool)
        geometries = tuple(self.shapes.geometries[at] for at in np.flatnonzero(here))
        return inside(replace(self.shapes, geometries=geometries), self.grid.strip(top, rows))

    @cached_property
    def _boxes(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        return boxes_of_rows(self.shapes, self.grid)


def _polygons(geometry: Any) -> Iterator[Any]:
    if geometry["type"] == "GeometryCollection":
        for each in geometry["geometries"]:
            yield from _polygons(each)
    elif geometry["type"] == "MultiPolygon":
        for rings in geometry["coordinates"]:
            yield {"type": "Polygon", "coordinates": rings}
    else:
        yield geometry
