"""Shapes burnt onto the grid of a raster: a pixel is inside if its centre is, unless asked more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import features

from terrazzo.base.errors import DataError
from terrazzo.io.rasters.handles import ENVIRONMENT, opening
from terrazzo.io.rasters.header import RasterInfo
from terrazzo.io.rasters.read_images import BYTE_LIMIT
from terrazzo.io.rasters.read_vectors import Features
from terrazzo.io.rasters.vector_layer import is_null

_LARGEST = int(np.iinfo(np.uint16).max)
_STRIP = 1 << 24
"""Pixels of which are kept which shape is on top."""


@dataclass(frozen=True, slots=True)
class Burnt:
    """Shapes on a grid.

    Attributes:
        label_HW: uint8, or uint16 where a value needs it.
        lost: how many shapes of each value left no pixel, of how many, on the grid: they cover no
            pixel's centre, or later ones cover them.
        beside: shapes that lie beside the grid.
        claimed: pixels inside shapes of several values, by the least and the largest of these.
    """

    label_HW: NDArray[Any]
    lost: dict[int, tuple[int, int]]
    beside: int
    claimed: dict[tuple[int, int], int]


def in_order(shapes: Features, priority: Sequence[str]) -> Features:
    """Return shapes in the order in which they are drawn, what lies on top last.

    Args:
        shapes: in the order of their file, which is kept among those of one rank.
        priority: values of their attribute, the topmost first; all others lie below them.
    """
    if not priority:
        return shapes
    rank = {value: number for number, value in enumerate(priority)}
    ranks = [rank.get(attribute_text(value), len(rank)) for value in shapes.values]
    order = sorted(range(len(ranks)), key=lambda at: -ranks[at])
    return replace(
        shapes,
        geometries=tuple(shapes.geometries[at] for at in order),
        values=tuple(shapes.values[at] for at in order),
        numbers=tuple(shapes.numbers[at] for at in order),
    )


def rasterize_shapes(
    shapes: Features,
    onto: RasterInfo,
    *,
    value: int | None,
    values: Mapping[str, int] | None = None,
    background: int,
    all_touched: bool = False,
) -> Burnt:
    """Burn shapes onto a grid; later ones cover earlier ones.

    Args:
        shapes: in the coordinates of the grid.
        onto: the grid.
        value: what pixels inside become. None: the attribute of each shape.
        values: what each value of the attribute becomes; nothing here: itself, a whole number.
        background: what all other pixels become.
        all_touched: a pixel is inside a shape that touches it, and not its centre alone.

    Raises:
        DataError: SEG-D012 an attribute that is no such number, or not in `values`; SEG-D031 a grid
            of more than `BYTE_LIMIT` pixels.
    """
    burnt = [
        value if value is not None else _number(shapes, at, values)
        for at in range(len(shapes.geometries))
    ]
    dtype = np.uint8 if max([*burnt, background]) < 256 else np.uint16
    label_HW = _burn(shapes, burnt, np.dtype(dtype), background, onto, all_touched)
    lost, beside = _lost(shapes, burnt, onto, all_touched)
    return Burnt(label_HW, lost, beside, _claimed(shapes, burnt, onto, all_touched))


def _claimed(
    shapes: Features, burnt: Sequence[int], onto: RasterInfo, all_touched: bool
) -> dict[tuple[int, int], int]:
    """Return `Burnt.claimed`: where the least value that is drawn is not the largest."""
    found: Counter[tuple[int, int]] = Counter()
    if len(set(burnt)) < 2:
        return found
    upwards = sorted(range(len(burnt)), key=burnt.__getitem__)
    for here, strip in _strips(shapes, onto):
        chosen = set(here.tolist())
        order = [at for at in upwards if at in chosen]
        if len({burnt[at] for at in order}) < 2:
            continue
        largest_HW, least_HW = (
            _burn(
                replace(shapes, geometries=tuple(shapes.geometries[at] for at in each)),
                [burnt[at] + 1 for at in each],
                np.dtype(np.int32),
                0,
                strip,
                all_touched,
            )
            for each in (order, order[::-1])
        )
        several_HW = largest_HW != least_HW
        pairs_P2 = np.stack([least_HW[several_HW], largest_HW[several_HW]], axis=1) - 1
        for pair, count in zip(*np.unique(pairs_P2, axis=0, return_counts=True), strict=True):
            found[int(pair[0]), int(pair[1])] += int(count)
    return found


def _strips(shapes: Features, onto: RasterInfo) -> Iterator[tuple[NDArray[np.intp], RasterInfo]]:
    """Yield parts of a grid of a bounded size, and which shapes may lie there."""
    rows_N2, on_grid_N = boxes_of_rows(shapes, onto)
    height = max(1, _STRIP // onto.columns)
    for top in range(0, onto.rows, height):
        rows = min(height, onto.rows - top)
        here = np.flatnonzero(on_grid_N & (rows_N2[:, 1] >= top) & (rows_N2[:, 0] <= top + rows))
        if len(here):
            yield here, onto.strip(top, rows)


def _lost(
    shapes: Features, burnt: Sequence[int], onto: RasterInfo, all_touched: bool
) -> tuple[dict[int, tuple[int, int]], int]:
    """Return `Burnt.lost` and `Burnt.beside`."""
    _, on_grid_N = boxes_of_rows(shapes, onto)
    seen_N = np.zeros(len(burnt), bool)
    for here, strip in _strips(shapes, onto):
        part = replace(shapes, geometries=tuple(shapes.geometries[at] for at in here))
        numbers = (here + 1).tolist()
        on_top_HW = _burn(part, numbers, np.dtype(np.int32), 0, strip, all_touched)
        seen_N[np.unique(on_top_HW[on_top_HW > 0]) - 1] = True
    lost: dict[int, tuple[int, int]] = {}
    for value, seen, on_grid in zip(burnt, seen_N, on_grid_N, strict=True):
        if on_grid:
            gone, total = lost.get(value, (0, 0))
            lost[value] = (gone + (not seen), total + 1)
    found = {value: counts for value, counts in sorted(lost.items()) if counts[0]}
    return found, int(np.count_nonzero(~on_grid_N))


def boxes_of_rows(shapes: Features, onto: RasterInfo) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return first and last row of the box about each shape, N×2, and whether it is on the grid."""
    boxes_N4 = np.array([features.bounds(each) for each in shapes.geometries]).reshape(-1, 4)
    corners = [onto.to_pixels(boxes_N4[:, x], boxes_N4[:, y]) for x in (0, 2) for y in (1, 3)]
    columns_N4, rows_N4 = (np.stack(axis, axis=1) for axis in zip(*corners, strict=True))
    rows_N2 = np.stack([rows_N4.min(axis=1), rows_N4.max(axis=1)], axis=1)
    on_grid_N = (rows_N2[:, 1] >= 0) & (rows_N2[:, 0] <= onto.rows)
    on_grid_N &= (columns_N4.max(axis=1) >= 0) & (columns_N4.min(axis=1) <= onto.columns)
    return rows_N2, on_grid_N


def inside(shapes: Features, onto: RasterInfo, *, all_touched: bool = False) -> NDArray[np.bool_]:
    """Return H×W bool, True where a pixel is inside any shape.

    Raises:
        DataError: SEG-D031 as `rasterize_shapes`.
    """
    ones = [1] * len(shapes.geometries)
    return _burn(shapes, ones, np.dtype(np.uint8), 0, onto, all_touched).view(np.bool_)


def _burn(
    shapes: Features,
    values: list[int],
    dtype: np.dtype[Any],
    background: int,
    onto: RasterInfo,
    all_touched: bool,
) -> NDArray[Any]:
    if onto.rows * onto.columns > BYTE_LIMIT:
        raise DataError(
            "SEG-D031",
            "the scene is too large for shapes to be drawn at once",
            file=shapes.path,
            observed=f"{onto.rows}×{onto.columns} px",
            allowed=f"{BYTE_LIMIT} px",
            next_step="rasterise the shapes with gdal_rasterize and name that raster",
        )
    burnt_HW = np.full((onto.rows, onto.columns), background, dtype)
    if values:
        # rasterio keeps its own warning of a raster without a place back while it draws.
        with opening, rasterio.Env(**ENVIRONMENT):
            features.rasterize(
                zip(shapes.geometries, values, strict=True),
                out=burnt_HW,
                transform=onto.transform,
                all_touched=all_touched,
            )
    return burnt_HW


def _number(shapes: Features, at: int, values: Mapping[str, int] | None) -> int:
    told = shapes.values[at]
    if values:
        number = values.get(attribute_text(told))
        allowed = ", ".join(values)
    else:
        is_number = isinstance(told, int | float) and math.isfinite(told)
        number = int(told) if is_number and told == int(told) else None
        allowed = f"whole numbers from 0 to {_LARGEST}"
    if number is None or not 0 <= number <= _LARGEST:
        raise DataError(
            "SEG-D012",
            "an attribute says no class",
            file=shapes.path,
            observed=f"{told!r} of shape {shapes.numbers[at]} (the first is 0)"
            + (": its attribute has no value (NULL)" if is_null(told) else ""),
            allowed=allowed,
            next_step="give the shape a value, or remove it"
            if is_null(told)
            else "name every value in data.options.burn_values, or correct the attribute",
        )
    return number


def attribute_text(value: Any) -> str:
    """Return the value of an attribute as settings name it: 3, also where NULLs made it 3.0."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
