"""The rule ``inclusive``: masks as labelme and Cityscapes' scripts draw them, by Pillow 13.

Coordinates are cut to whole numbers, which then name pixels and not corners: a polygon holds the
pixels under its own outline, and objects that share a border both claim it. The rows of pixels are
crossed with every edge, both of its ends included; what lies between two crossings is inside, with
fractions rounded outwards at halves. Written anew, in the float32 that Pillow computes with, so
that masks do not change with the version that is installed. Of random rings all are equal, but for
one in thousands that comes back to a point it has passed, by a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Box = tuple[int, int, int, int]

_TOGETHER = 1 << 18
"""Rows times edges that are crossed at once."""


@dataclass(frozen=True, slots=True)
class _Edges:
    """Edges that are not level: first point, change of x by row, first and last row."""

    x_E: NDArray[np.int64]
    y_E: NDArray[np.int64]
    slope_E: _Floats
    first_E: NDArray[np.int64]
    last_E: NDArray[np.int64]
    first_x_E: NDArray[np.int64]
    last_x_E: NDArray[np.int64]

    def end_at(self, row: int, edge: int) -> int | None:
        """Return the column of the end of an edge that lies in a row; None: neither does."""
        if self.first_E[edge] == row:
            return int(self.first_x_E[edge])
        return int(self.last_x_E[edge]) if self.last_E[edge] == row else None

    def x_at(self, row: NDArray[np.int64] | int, edge: NDArray[np.int64] | int) -> _Floats:
        """Return where edges cross rows."""
        along = np.asarray(row - self.y_E[edge], np.float32) * self.slope_E[edge]
        x: _Floats = along + self.x_E[edge].astype(np.float32)
        return x


def fill_ring(ring_N2: NDArray[np.float64], box: _Box) -> NDArray[np.bool_]:
    """Fill a ring; see `fill_centre.fill_ring`."""
    top, left, below, beyond = box
    rows, columns = below - top, beyond - left
    corners_N2 = np.trunc(ring_N2).astype(np.int64)
    if len(corners_N2) > 1 and (corners_N2[0] == corners_N2[-1]).all():
        corners_N2 = corners_N2[:-1]
    ends_N2 = np.roll(corners_N2, -1, axis=0)
    is_level_N = corners_N2[:, 1] == ends_N2[:, 1]
    # Starts and ends of runs of pixels, summed along the rows.
    steps_HW = np.zeros((rows, columns + 1), np.int32)
    level = corners_N2[is_level_N], ends_N2[is_level_N]
    _add_runs(
        steps_HW,
        level[0][:, 1] - top,
        np.minimum(level[0][:, 0], level[1][:, 0]) - left,
        np.maximum(level[0][:, 0], level[1][:, 0]) - left,
    )
    edges = _edges(corners_N2[~is_level_N], ends_N2[~is_level_N])
    last = int(corners_N2[:, 1].max())
    row_R = np.arange(max(top, int(corners_N2[:, 1].min())), min(below, last + 1))
    height = max(1, _TOGETHER // max(len(edges.x_E), 1))
    for start in range(0, len(row_R) if len(edges.x_E) else 0, height):
        some_R = row_R[start : start + height]
        rows_P, starts_P, ends_P = _runs_between(_crossings(edges, some_R, last))
        _add_runs(steps_HW, some_R[rows_P] - top, starts_P - left, ends_P - left)
    filled_HW: NDArray[np.bool_] = np.cumsum(steps_HW[:, :-1], axis=1) > 0
    return filled_HW


def _edges(starts_E2: NDArray[np.int64], ends_E2: NDArray[np.int64]) -> _Edges:
    (x_E, y_E), (end_x_E, end_y_E) = starts_E2.T, ends_E2.T
    slope_E = (end_x_E - x_E).astype(np.float32) / (end_y_E - y_E).astype(np.float32)
    first_E, last_E = np.minimum(y_E, end_y_E), np.maximum(y_E, end_y_E)
    first_x_E, last_x_E = np.where(y_E == first_E, (x_E, end_x_E), (end_x_E, x_E))
    return _Edges(x_E, y_E, slope_E, first_E, last_E, first_x_E, last_x_E)


def _crossings(edges: _Edges, row_R: NDArray[np.int64], last: int) -> _Floats:
    """Return the crossings of each row, sorted; NaN fills up. An edge's lower end counts twice."""
    edge_E = np.arange(len(edges.x_E))
    crosses_RE = (row_R[:, None] >= edges.first_E) & (row_R[:, None] <= edges.last_E)
    x_RE = edges.x_at(row_R[:, None], edge_E[None, :])
    twice_RE = crosses_RE & (row_R[:, None] == edges.last_E) & (row_R[:, None] < last)
    # Where two edges that lean the same way meet, the tip is thin and would fall apart.
    is_tip_RE = crosses_RE & ~twice_RE & (edges.slope_E != 0)
    is_tip_RE &= (row_R[:, None] == edges.first_E) | (row_R[:, None] == edges.last_E)
    for r, e in zip(*(at.tolist() for at in np.nonzero(is_tip_RE)), strict=True):
        x_RE[r, e] = _joined_tip(edges, int(row_R[r]), e, x_RE[r, e], last)
    both_RE = np.concatenate(
        [np.where(crosses_RE, x_RE, np.nan), np.where(twice_RE, x_RE, np.nan)], axis=1
    )
    return np.sort(both_RE, axis=1)  # NaN comes last


def _joined_tip(edges: _Edges, row: int, edge: int, x: np.float32, last: int) -> np.float32:
    """Return where a crossing lies so that the tip of a corner touches the next row."""
    beside = row + (-1 if row == last else 1)
    here, end = edges.x_at(beside, edge), edges.end_at(row, edge)
    for other in range(edge):
        leans_alike = edges.slope_E[edge] * edges.slope_E[other] > 0
        if not leans_alike or edges.end_at(row, other) != end:
            continue
        if not edges.first_E[other] <= beside <= edges.last_E[other]:
            continue
        there = edges.x_at(beside, other)
        if x > max(here, there) + 1:
            return np.float32(_half_away(np.maximum(here, there)) + 1)
        if x < min(here, there) - 1:
            return np.float32(_half_away(np.minimum(here, there)) - 1)
        return x
    return x


def _runs_between(
    x_RX: _Floats,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return row, first and last column of the runs between pairs of crossings."""
    pairs = x_RX.shape[1] // 2
    starts_RP, ends_RP = x_RX[:, 0 : 2 * pairs : 2], x_RX[:, 1 : 2 * pairs : 2]
    rows_P, places_P = np.nonzero(~np.isnan(ends_RP))
    starts_P = _half_away(starts_RP[rows_P, places_P])
    ends_P = _half_towards(ends_RP[rows_P, places_P])
    return rows_P, starts_P, ends_P


def _half_away(values: _Floats) -> NDArray[np.int64]:
    rounded: NDArray[np.int64] = (np.sign(values) * np.floor(np.abs(values) + 0.5)).astype(np.int64)
    return rounded


def _half_towards(values: _Floats) -> NDArray[np.int64]:
    rounded: NDArray[np.int64] = (np.sign(values) * np.ceil(np.abs(values) - 0.5)).astype(np.int64)
    return rounded


def _add_runs(
    steps_HW: NDArray[np.int32],
    row_P: NDArray[np.int64],
    start_P: NDArray[np.int64],
    end_P: NDArray[np.int64],
) -> None:
    """Add one at the start of each run and take it away behind its end; cut to the box."""
    rows, columns = steps_HW.shape[0], steps_HW.shape[1] - 1
    seen_P = (row_P >= 0) & (row_P < rows) & (start_P <= end_P)
    seen_P &= (end_P >= 0) & (start_P < columns)
    np.add.at(steps_HW, (row_P[seen_P], np.maximum(start_P[seen_P], 0)), 1)
    np.add.at(steps_HW, (row_P[seen_P], np.minimum(end_P[seen_P] + 1, columns)), -1)
