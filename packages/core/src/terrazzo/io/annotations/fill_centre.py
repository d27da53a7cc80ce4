"""The rule ``centre``: a pixel is inside a shape if its centre is.

Within a ring even-odd. A centre on an edge belongs to the side towards smaller x, and on a
horizontal edge to the side towards larger y, whichever way the ring runs: of two shapes that share
an edge exactly one has it. This is what GDAL does, apart from horizontal edges through centres,
which GDAL adds to a shape or not by the direction of its ring.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Box = tuple[int, int, int, int]
"""First row, first column, row and column after the last."""


def fill_ring(ring_N2: NDArray[np.float64], box: _Box) -> NDArray[np.bool_]:
    """Fill a ring.

    Args:
        ring_N2: x and y; the first point may be repeated at the end.
        box: the pixels that are wanted.

    Returns:
        Rows × columns of the box.
    """
    top, left, below, beyond = box
    rows, columns = below - top, beyond - left
    ends_N2 = np.roll(ring_N2, -1, axis=0)
    # Each edge from its upper end to its lower one, so that it crosses a row at the same float
    # for both of the shapes that share it.
    is_up_N1 = (ring_N2[:, 1] > ends_N2[:, 1])[:, None]
    upper_N2 = np.where(is_up_N1, ends_N2, ring_N2)
    lower_N2 = np.where(is_up_N1, ring_N2, ends_N2)
    first_N = np.clip(np.ceil(upper_N2[:, 1] - 0.5), top, below).astype(np.int64)
    last_N = np.clip(np.ceil(lower_N2[:, 1] - 0.5), top, below).astype(np.int64)
    counts_N = last_N - first_N
    edge_M = np.repeat(np.arange(len(ring_N2)), counts_N)
    if not len(edge_M):
        return np.zeros((rows, columns), bool)
    step_M = np.arange(len(edge_M)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)
    row_M = first_N[edge_M] + step_M
    (x1_M, y1_M), (x2_M, y2_M) = upper_N2[edge_M].T, lower_N2[edge_M].T
    x_M = (row_M + 0.5 - y1_M) * (x2_M - x1_M) / (y2_M - y1_M) + x1_M
    column_M = np.clip(np.floor(x_M + 0.5), left, beyond).astype(np.int64) - left
    # A crossing turns inside into outside for every pixel to its right.
    crossings = np.bincount(
        (row_M - top) * (columns + 1) + column_M, minlength=rows * (columns + 1)
    )
    odd_HW = np.cumsum(crossings.reshape(rows, columns + 1)[:, :-1], axis=1) & 1
    filled_HW: NDArray[np.bool_] = odd_HW.astype(bool)
    return filled_HW


def fill_ellipse(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float, box: _Box
) -> NDArray[np.bool_]:
    """Fill an ellipse, its edge included; see `shapes.Ellipse`."""
    dx_HW, dy_HW = _offsets(x, y, box)
    angle = np.deg2rad(degrees)
    along_HW = (dx_HW * np.cos(angle) + dy_HW * np.sin(angle)) / radius_x
    across_HW = (dy_HW * np.cos(angle) - dx_HW * np.sin(angle)) / radius_y
    inside_HW: NDArray[np.bool_] = along_HW**2 + across_HW**2 <= 1
    return inside_HW


def fill_line(points_N2: NDArray[np.float64], width: float, box: _Box) -> NDArray[np.bool_]:
    """Fill all that lies within half of `width` of a line, whose ends are round."""
    top, left, below, beyond = box
    inside_HW = np.zeros((below - top, beyond - left), bool)
    starts_N2 = points_N2[:-1] if len(points_N2) > 1 else points_N2
    ends_N2 = points_N2[1:] if len(points_N2) > 1 else points_N2
    for (x1, y1), (x2, y2) in zip(starts_N2.tolist(), ends_N2.tolist(), strict=True):
        dx_HW, dy_HW = _offsets(x1, y1, box)
        length = (x2 - x1) ** 2 + (y2 - y1) ** 2
        share_HW = np.zeros_like(dx_HW)
        if length > 0:
            share_HW = np.clip((dx_HW * (x2 - x1) + dy_HW * (y2 - y1)) / length, 0, 1)
        far_HW = (dx_HW - share_HW * (x2 - x1)) ** 2 + (dy_HW - share_HW * (y2 - y1)) ** 2
        inside_HW |= far_HW <= (width / 2) ** 2
    return inside_HW


def _offsets(x: float, y: float, box: _Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    top, left, below, beyond = box
    dx_1W = np.arange(left, beyond)[None, :] + 0.5 - x
    dy_H1 = np.arange(top, below)[:, None] + 0.5 - y
    dx_HW, dy_HW = np.broadcast_arrays(dx_1W, dy_H1)
    return dx_HW, dy_HW
