"""Where the images of a split lie in the scenes they were cut from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from terrazzo.io.rasters import Part, RasterInfo

LONGEST_SIDE = 768
"""Rows or columns of a map."""


def pixel_text(row: int, column: int, name: str, corner: tuple[int, int] | None) -> str:
    """Say where a pixel is: in its file, or in the scene that its chip was cut from.

    Args:
        row: in the image.
        column: in the image.
        name: of the image.
        corner: first row and column of the chip in its scene; None: the image is a whole file.
    """
    if corner is None:
        return f"row {row}, column {column}"
    return f"row {corner[0] + row}, column {corner[1] + column} of the scene (chip {name})"


@dataclass(frozen=True)
class PlacedScene:
    """A scene that chips are cut from.

    Attributes:
        name: unique within the split.
        rows: of the scene in pixels.
        columns: of the scene in pixels.
        crs: such as ``EPSG:32633``; empty where the file gives none.
        transform: a, b, c, d, e, f: x = a·column + b·row + c, y = d·column + e·row + f.
        image: raster the image is taken from; empty where there is none.
        bands: positions of the three bands (or one) to show.
    """

    name: str
    rows: int
    columns: int
    crs: str
    transform: tuple[float, float, float, float, float, float]
    image: str
    bands: tuple[int, ...]

    @property
    def step(self) -> int:
        """Pixels of the scene from one of the map to the next."""
        return max(1, -(-max(self.rows, self.columns) // LONGEST_SIDE))

    def taken(self, length: int) -> NDArray[np.intp]:
        """Return the rows (or columns) of the scene that are in the map."""
        return np.arange(self.step // 2, length, self.step)


def placed_scene(name: str, grid: RasterInfo, shown: Part | None) -> PlacedScene:
    """Return a scene as maps of it need it.

    Args:
        name: unique within the split.
        grid: of the scene.
        shown: a raster that lies on this grid; the first three of its bands are shown, or the
            first. None: there is none.
    """
    t, bands = grid.transform, () if shown is None else shown.bands or ()
    return PlacedScene(
        name=name,
        rows=grid.rows,
        columns=grid.columns,
        crs="" if grid.crs is None else str(grid.crs.to_string()),
        transform=(t.a, t.b, t.c, t.d, t.e, t.f),
        image="" if shown is None else str(shown.path),
        bands=bands[:3] if len(bands) >= 3 else bands[:1],
    )


@runtime_checkable
class Placed(Protocol):
    """A `terrazzo.data.datasets.Source` whose images are parts of scenes."""

    @property
    def scenes(self) -> tuple[PlacedScene, ...]:
        """All scenes."""
        ...

    def place(self, index: int) -> tuple[int, int, int]:
        """Return the number of the scene of an image, its first row and its first column."""
        ...
