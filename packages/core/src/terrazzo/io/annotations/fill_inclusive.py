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

    def end_at(self, row: int, edge: int) -> int:
        """Return the column of the end of an edge that lies in a row."""
        return int((self.first_x_E if self.first_E[edge] == row else self.last_x_E)[edge])

    def by_end(self) -> dict[tuple[int, int], list[int]]:
        """Return the edges, in their order, that have an end at a row and column."""
        found: dict[tuple[int, int], list[int]] = {}
        ends = (self.first_E, self.first_x_E, self.last_E, self.last_x_E)
        for edge, (row, x, last_row, last_x) in enumerate(
            zip(*(each.tolist() for each in ends), strict=True)
        ):
            found.setdefault((row, x), []).append(edge)
            found.setdefault((last_row, last_x), []).append(edge)
        return found

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
    if len(edges.x_E):
        row_P, start_P, end_P = _runs_between(*_crossings(edges, top, below, last))
        _add_runs(steps_HW, row_P - top, start_P - left, end_P - left)
    filled_HW: NDArray[np.bool_] = np.cumsum(steps_HW[:, :-1], axis=1) > 0
    return filled_HW


def _edges(starts_E2: NDArray[np.int64], ends_E2: NDArray[np.int64]) -> _Edges:
    (x_E, y_E), (end_x_E, end_y_E) = starts_E2.T, ends_E2.T
    slope_E = (end_x_E - x_E).astype(np.float32) / (end_y_E - y_E).astype(np.float32)
    first_E, last_E = np.minimum(y_E, end_y_E), np.maximum(y_E, end_y_E)
    first_x_E, last_x_E = np.where(y_E == first_E, (x_E, end_x_E), (end_x_E, x_E))
    return _Edges(x_E, y_E, slope_E, first_E, last_E, first_x_E, last_x_E)


def _crossings(edges: _Edges, top: int, below: int, last: int) -> tuple[NDArray[np.int64], _Floats]:
    """Return row and column of the crossings; the lower end of an edge counts twice.

    Args:
        edges: of the ring.
        top: first row that is wanted.
        below: row after the last that is wanted.
        last: last row of the ring.
    """
    first_E, after_E = np.maximum(edges.first_E, top), np.minimum(edges.last_E + 1, below)
    counts_E = np.maximum(after_E - first_E, 0)
    edge_M = np.repeat(np.arange(len(counts_E)), counts_E)
    row_M = first_E[edge_M] + np.arange(len(edge_M))
    row_M -= np.repeat(np.cumsum(counts_E) - counts_E, counts_E)
    x_M = edges.x_at(row_M, edge_M)
    is_last_M = row_M == edges.last_E[edge_M]
    is_twice_M = is_last_M & (row_M < last)
    # Where two edges that lean the same way meet, the tip is thin and would fall apart.
    is_end_M = (is_last_M | (row_M == edges.first_E[edge_M])) & (edges.slope_E[edge_M] != 0)
    at_end = edges.by_end()
    for m in np.flatnonzero(is_end_M & ~is_twice_M).tolist():
        row, edge = int(row_M[m]), int(edge_M[m])
        meeting = at_end[row, edges.end_at(row, edge)]
        x_M[m] = _joined_tip(edges, row, edge, meeting, x_M[m], last)
    return np.concatenate([row_M, row_M[is_twice_M]]), np.concatenate([x_M, x_M[is_twice_M]])


def _joined_tip(
    edges: _Edges, row: int, edge: int, meeting: list[int], x: np.float32, last: int
) -> np.float32:
    """Return where a crossing lies so that the tip of a corner touches the next row."""
    beside = row + (-1 if row == last else 1)
    for other in meeting:
        if other >= edge:
            break
        if not edges.slope_E[edge] * edges.slope_E[other] > 0:
            continue
        if not edges.first_E[other] <= beside <= edges.last_E[other]:
            continue
        here, there = edges.x_at(beside, edge), edges.x_at(beside, other)
        if x > max(here, there) + 1:
            return np.float32(_half_away(np.maximum(here, there)) + 1)
        if x < min(here, there) - 1:
            return np.float32(_half_away(np.minimum(here, there)) - 1)
        return x
    return x


def _runs_between(
    row_M: NDArray[np.int64], x_M: _Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return row, first and last column of the runs between pairs of crossings."""
    order_M = np.lexsort((x_M, row_M))
    row_M, x_M = row_M[order_M], x_M[order_M]
    _, firsts, lengths = np.unique(row_M, return_index=True, return_counts=True)
    place_M = np.arange(len(row_M)) - np.repeat(firsts, lengths)
    is_paired_M = (place_M % 2 == 0) & (place_M + 1 < np.repeat(lengths, lengths))
    starts = np.flatnonzero(is_paired_M)
    return row_M[starts], _half_away(x_M[starts]), _half_towards(x_M[starts + 1])


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
