"""Random deformations of the window that training sees: elastic, by a grid, by a lens.

Each says from where in the undistorted window a pixel is taken. They are applied together with the
affine map of `terrazzo.data.augment`, so that a pixel is sampled once.

Sources: Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, section 3.1 (random displacements of a
coarse grid, interpolated bicubically); Brown, "Decentering distortion of lenses", 1966 (the radial
term).
"""

from __future__ import annotations

import copy

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.recipe import AugmentConfig
from terrazzo.io.resize import Size

_CELLS = 5
"""Cells a side whose widths `grid_distortion` changes."""

Coordinates = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Columns and rows that the pixels of a window are taken from, H×W each; pixel centres are whole
numbers."""


def own_draws(rng: np.random.Generator) -> np.random.Generator:
    """Return a generator of other numbers, which leaves those of `rng` as they are.

    So what is drawn for a deformation moves no other draw.
    """
    bits = copy.deepcopy(rng.bit_generator)
    # Far beyond what one sample draws; Philox and PCG64 both have it.
    bits.advance(1 << 64)  # type: ignore[attr-defined]
    return np.random.Generator(bits)


def deformed(window: Size, settings: AugmentConfig, rng: np.random.Generator) -> Coordinates | None:
    """Return where the pixels of a window come from; None where nothing is deformed.

    Args:
        window: rows and columns.
        settings: `elastic`, `elastic_points`, `grid_distortion`, `optical_distortion`.
        rng: private to this sample; the same numbers are drawn whichever of these is on, but for
            those of the elastic grid, which come last.
    """
    if settings.elastic == settings.grid_distortion == settings.optical_distortion == 0:
        return None
    cells_2N, lens = 2 * rng.random((2, _CELLS)) - 1, 2 * rng.random() - 1
    rows, columns = window
    y_H = _with_other_cells(rows, settings.grid_distortion * cells_2N[0])
    x_W = _with_other_cells(columns, settings.grid_distortion * cells_2N[1])
    x_HW, y_HW = np.meshgrid(x_W, y_H)
    if settings.optical_distortion > 0:
        across_HW, down_HW = x_HW - columns / 2, y_HW - rows / 2
        squared_HW = (across_HW**2 + down_HW**2) / ((rows / 2) ** 2 + (columns / 2) ** 2)
        pull_HW = settings.optical_distortion * lens * squared_HW
        x_HW, y_HW = x_HW + pull_HW * across_HW, y_HW + pull_HW * down_HW
    if settings.elastic > 0:
        side = settings.elastic_points
        moves = settings.elastic * rng.standard_normal((2, side, side))
        x_HW, y_HW = (
            at_HW + cv2.resize(move, (columns, rows), interpolation=cv2.INTER_CUBIC)
            for at_HW, move in zip((x_HW, y_HW), moves, strict=True)
        )
    return (x_HW - 0.5).astype(np.float32), (y_HW - 0.5).astype(np.float32)


def _with_other_cells(length: int, changes_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where pixel centres come from when equal cells take these widths instead.

    The ends of the axis stay where they are.
    """
    widths_N = 1 + changes_N
    ends_N = np.concatenate([[0.0], np.cumsum(widths_N) / widths_N.sum()])
    centres = (np.arange(length) + 0.5) / length
    evenly = np.linspace(0, 1, len(ends_N))
    return np.asarray(np.interp(centres, evenly, ends_N) * length, dtype=np.float64)
