"""Areas of equal pixels as polygons, from rows that come a strip at a time.

Two pixels belong to one area where they share a side. The sides of runs of pixels are followed
round each area, with the area on the right. What is followed down to the last row of a strip stays
open: the next strip begins with that row again, and there each open outline leads from one side of
a run to another one. Its corners are kept as pieces that are put together once, when the outline is
closed; so the work grows with the number of sides and not with how often an area was continued.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.io.rasters.linked_order import chains_of
from terrazzo.io.rasters.pixel_runs import components, ranges, runs_of, strips_of

Corners = NDArray[np.int32]
"""N×2: twice the column, plus one where four pixels meet of which two diagonal ones are equal; and
the row."""

_Pieces = list[Any]
"""Of one open outline, in order: `Corners`, and lists of them like this one."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """P polygons as arrays: the first ring of each is its outline, the others are holes in it.

    They are ordered by their lowest row, and then by the first column they have there. Rings begin
    at the first of their corners in the order of pixels; holes are ordered by these. Outlines turn
    to the right where rows run downwards, holes to the left.

    Attributes:
        label: of the pixels.
        pixels: how many there are.
        corners: N×2 columns and rows of all rings, the first one of each repeated as its last.
        ring_offsets: where each ring begins in `corners`, and N.
        polygon_offsets: where each polygon begins among the rings, and their number.
    """

    label: NDArray[Any]
    pixels: NDArray[np.int64]
    corners: NDArray[np.float64]
    ring_offsets: NDArray[np.int64]
    polygon_offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(slots=True)
class _Rings:
    """Closed rings that do not repeat their first corner."""

    corners: Corners
    lengths: NDArray[np.int64]


@dataclass(slots=True)
class _OpenArea:
    """An area that goes on below: its closed rings so far."""

    label: int
    rings: list[_Rings] = field(default_factory=list)


@dataclass(slots=True)
class _Seam:
    """The last row of a strip, and what is open there.

    Attributes:
        labels_W: the row.
        target: of each run with a label, the run whose right side its left side leads to.
        pieces: of each run, the corners on that way.
        area: of each run, which of `areas` it belongs to.
        areas: that are open.
    """

    labels_W: NDArray[Any]
    target: NDArray[np.int64]
    pieces: list[_Pieces]
    area: NDArray[np.int64]
    areas: list[_OpenArea]


def outlines_of(
    groups: Iterable[NDArray[np.integer]], num_rows: int, nodata: int
) -> Iterator[Outlines]:
    """Yield the areas of equal pixels that share sides, once no further row can touch them.

    What is yielded, and in which order, does not depend on how the rows are grouped. Memory holds
    a strip and the outlines of areas that are open.

    Args:
        groups: labels R×W, any integers, from the first row to the last.
        num_rows: of all groups together.
        nodata: value of pixels that belong to no area.
    """
    seam: _Seam | None = None
    row = 0
    for strip_RW in strips_of(groups):
        row += len(strip_RW)
        finished, seam = _Strip(strip_RW, seam, row, nodata, is_last=row == num_rows).work()
        if finished is not None:
            yield finished
    assert row == num_rows


class _Strip:
    """Some rows below a seam, with their sides followed from one to the next.

    Each run has its left side as side 2n, its right one as 2n + 1. Chains of sides are closed or
    cross a seam; those that do are numbered from 0, in their order.

    Attributes:
        labels_RW: the rows, that of the seam above included.
        above: the seam, or None at the top of the map.
        is_last: whether no rows follow.
        first_row: of `labels_RW` in the map.
        runs: that have a label.
        num_above: how many of them lie in the row of the seam above.
        below: those that go on below the strip.
        chains: of sides.
        chain_of_side: one for each.
        label: of the pixels of each chain.
        corners: of all chains.
        corner_of_place: where those of each side in the order of `chains` begin, and their number.
        first_corner: of each chain, and their number.
        crosses: whether a chain crosses a seam.
        number: of each chain that does.
        root: of each chain one of the same area; see `_roots`.
    """

    def __init__(
        self,
        labels_RW: NDArray[np.integer],
        above: _Seam | None,
        next_row: int,
        nodata: int,
        *,
        is_last: bool,
    ) -> None:
        if above is not None:
            labels_RW = np.concatenate([above.labels_W[None], labels_RW])
        self.labels_RW, self.above, self.is_last = labels_RW, above, is_last
        self.first_row = next_row - len(labels_RW)
        every = runs_of(labels_RW)
        self.runs = every.only(every.label != nodata)
        self.num_above = 0 if above is None else len(above.target)
        last = np.searchsorted(self.runs.row, len(labels_RW) - 1)
        self.below = np.arange(len(self.runs) if is_last else last, len(self.runs))
        follows = self._links()
        self.chains = chains_of(follows)
        self.chain_of_side = np.empty(len(follows), np.int64)
        self.chain_of_side[self.chains.order] = self.chains.chain
        self.label = self.runs.label[self.chains.order[self.chains.first[:-1]] // 2]
        self.corners, self.corner_of_place = self._corners(follows)
        self.first_corner = self.corner_of_place[self.chains.first]
        self.crosses = np.zeros(len(self.label), bool)
        self.crosses[self.chain_of_side[2 * np.arange(self.num_above)]] = True
        self.crosses[self.chain_of_side[2 * self.below]] = True
        self.number = np.cumsum(self.crosses) - 1
        self.root = self._roots()

    def work(self) -> tuple[Outlines | None, _Seam | None]:
        """Return the areas that are whole, and what stays open."""
        ended, seam = self._across()
        whole = ~self.crosses & ~self.crosses[self.root]
        rings, area_of_ring = [self._taken(np.flatnonzero(whole))], [self.root[whole]]
        label = [self.label]
        for number, area in enumerate(ended, start=len(self.label)):
            rings += area.rings
            area_of_ring += [np.full(len(each.lengths), number) for each in area.rings]
            label.append(np.array([area.label], self.label.dtype))
        together = _Rings(
            np.concatenate([each.corners for each in rings]),
            np.concatenate([each.lengths for each in rings]),
        )
        if len(together.lengths) == 0:
            return None, seam
        columns = self.labels_RW.shape[1]
        areas, labels = np.concatenate(area_of_ring), np.concatenate(label)
        return _outlines(together, areas, labels, columns), seam

    def _links(self) -> NDArray[np.int64]:
        """Return which side is followed after each; -1 where that is below the strip."""
        runs = self.runs
        side = np.arange(2 * len(runs))
        follows = side ^ 1  # round the top and the bottom of a run that touches no other
        same = runs.label[runs.upper] == runs.label[runs.lower]
        upper, lower = runs.upper[same].astype(np.int64), runs.lower[same].astype(np.int64)
        if len(upper):
            same_upper, same_lower = upper[1:] == upper[:-1], lower[1:] == lower[:-1]
            goes_on = same_upper | same_lower
            begins, ends = np.append(True, ~goes_on), np.append(~goes_on, True)
            follows[2 * lower[begins]] = 2 * upper[begins]
            follows[2 * upper[ends] + 1] = 2 * lower[ends] + 1
            left, right = lower[:-1][same_upper], lower[1:][same_upper]
            follows[2 * right] = 2 * left + 1
            left, right = upper[:-1][same_lower], upper[1:][same_lower]
            follows[2 * left + 1] = 2 * right
        # A hole's first side is the right one of a run; what that touches above is of its area.
        self.upper_run = np.full(len(runs), -1)
        self.upper_run[lower] = upper
        if self.above is not None:
            follows[2 * np.arange(self.num_above)] = 2 * self.above.target + 1
        follows[2 * self.below + 1] = -1
        return follows

    def _corners(self, follows: NDArray[np.int64]) -> tuple[Corners, NDArray[np.int64]]:
        """Return the corners of all chains, and where those of each place in them begin."""
        runs, chains = self.runs, self.chains
        column = np.empty(len(follows), np.int32)
        column[0::2], column[1::2] = runs.start, runs.stop
        after = follows[chains.order]
        one, other = column[chains.order], column[after]
        turns = (one != other) & (after >= 0) & (chains.order >= 2 * self.num_above)
        # Right sides of the row above lead into the strip, left ones lead out of it.
        turns |= (one != other) & (after >= 0) & (chains.order % 2 == 1)
        number = np.zeros(len(turns) + 1, np.int64)
        np.cumsum(2 * turns, out=number[1:])
        row = runs.row[chains.order[turns] // 2] + (chains.order[turns] % 2).astype(np.int32)
        corners = np.empty((number[-1], 2), np.int32)
        corners[0::2, 0], corners[1::2, 0] = one[turns], other[turns]
        corners[:, 1] = np.repeat(row, 2)
        meets = self._diagonals()[corners[:, 1], corners[:, 0]]
        corners[:, 0] *= 2
        corners[:, 0] += meets
        corners[:, 1] += np.int32(self.first_row)
        return corners, number

    def _diagonals(self) -> NDArray[np.bool_]:
        """Mark the corners of pixels where two diagonal ones alone are equal."""
        labels_RW = self.labels_RW
        rows, columns = labels_RW.shape
        marked = np.zeros((rows + 1, columns + 1), bool)
        changes = labels_RW[:, 1:] != labels_RW[:, :-1]
        row, column = np.nonzero(changes[:-1] & changes[1:])
        upper_left, upper_right = labels_RW[row, column], labels_RW[row, column + 1]
        lower_left, lower_right = labels_RW[row + 1, column], labels_RW[row + 1, column + 1]
        diagonal = (upper_left == lower_right) | (upper_right == lower_left)
        diagonal &= (upper_left != lower_left) & (upper_right != lower_right)
        marked[row[diagonal] + 1, column[diagonal] + 1] = True
        return marked

    def _roots(self) -> NDArray[np.int64]:
        """Return for each chain one of its area: of a hole the outline, or one across a seam."""
        chains, root = self.chains, np.arange(len(self.label))
        if len(root) == 0:
            return root
        column = np.empty(len(chains.order), np.int64)
        column[0::2], column[1::2] = -self.runs.start.astype(np.int64), self.runs.stop
        size = np.add.reduceat(column[chains.order], chains.first[:-1])
        first_side = np.minimum.reduceat(chains.order, chains.first[:-1])
        holes = np.flatnonzero((size < 0) & ~self.crosses)
        over = self.upper_run[first_side[holes] // 2]
        root[holes] = self.chain_of_side[2 * over]
        while True:
            further = root[root]
            if np.array_equal(further, root):
                return root
            root = further

    def _across(self) -> tuple[list[_OpenArea], _Seam | None]:
        """Continue the areas of the seam above; return those that end here, and the seam below."""
        ways = self._ways()
        area_of_way, num_areas = self._joined()
        areas = self._continued(area_of_way, num_areas)
        is_open = np.zeros(len(ways), bool)
        is_open[self.number[self.chain_of_side[2 * self.below]]] = True
        for closed in np.flatnonzero(~is_open):
            ring = _flat(ways[closed])
            areas[area_of_way[closed]].rings.append(_Rings(ring, np.array([len(ring)])))
        goes_on = np.zeros(num_areas, bool)
        goes_on[area_of_way[: len(ways)][is_open]] = True
        ended = [area for area, on in zip(areas, goes_on, strict=True) if not on]
        if self.is_last:
            return ended, None
        chain = self.chain_of_side[2 * self.below]
        last_side = self.chains.order[self.chains.first[1:] - 1]
        renumbered = np.cumsum(goes_on) - 1
        seam = _Seam(
            self.labels_RW[-1].copy(),
            last_side[chain] // 2 - (len(self.runs) - len(self.below)),
            [ways[way] for way in self.number[chain]],
            renumbered[area_of_way[self.number[chain]]],
            [area for area, on in zip(areas, goes_on, strict=True) if on],
        )
        return ended, seam

    def _ways(self) -> list[_Pieces]:
        """Return the corners of the chains that cross a seam, with those from above in between."""
        chains, crossing = self.chains, np.flatnonzero(self.crosses)
        is_above = (chains.order < 2 * self.num_above) & (chains.order % 2 == 0)
        places = np.flatnonzero(is_above)
        cuts, runs = self.corner_of_place[places].tolist(), (chains.order[places] // 2).tolist()
        bounds = np.stack(
            [
                self.first_corner[crossing],
                self.first_corner[crossing + 1],
                np.searchsorted(places, chains.first[crossing]),
                np.searchsorted(places, chains.first[crossing + 1]),
            ],
            axis=1,
        )
        ways = []
        for begin, end, first, last in bounds.tolist():
            pieces: _Pieces = []
            for each in range(first, last):
                if cuts[each] > begin:
                    pieces.append(self.corners[begin : cuts[each]].copy())
                    begin = cuts[each]
                assert self.above is not None
                pieces.append(self.above.pieces[runs[each]])
            if end > begin:
                pieces.append(self.corners[begin:end].copy())
            ways.append(pieces)
        return ways

    def _joined(self) -> tuple[NDArray[np.integer], int]:
        """Return the areas, from 0, of the chains that cross a seam and of the areas from above.

        Returns:
            Area of each crossing chain, then of each area from above; and how many there are.
        """
        count = int(self.crosses.sum())
        ones = [self.number[self.chain_of_side[2 * self.below]]]
        others = [self.number[self.chain_of_side[2 * self.below + 1]]]
        if self.above is not None:
            ones.append(self.number[self.chain_of_side[2 * np.arange(self.num_above)]])
            others.append(count + self.above.area)
            count += len(self.above.areas)
        least = components(count, np.concatenate(ones), np.concatenate(others))
        found, area = np.unique(least, return_inverse=True)
        return area, len(found)

    def _continued(self, area_of_way: NDArray[np.integer], num_areas: int) -> list[_OpenArea]:
        """Return the areas that cross a seam, with their rings from above and the holes of here."""
        areas = [_OpenArea(0) for _ in range(num_areas)]
        crossing = np.flatnonzero(self.crosses)
        for number, label in zip(area_of_way.tolist(), self.label[crossing].tolist(), strict=False):
            areas[number].label = label
        above = [] if self.above is None else self.above.areas
        for number, area in zip(area_of_way[len(crossing) :].tolist(), above, strict=True):
            into = areas[number]
            if len(into.rings) < len(area.rings):
                into.rings, area.rings = area.rings, into.rings
            into.rings += area.rings
        holes = np.flatnonzero(~self.crosses & self.crosses[self.root])
        area_of_hole = area_of_way[self.number[self.root[holes]]]
        order = np.argsort(area_of_hole, kind="stable")
        bounds = np.flatnonzero(np.diff(area_of_hole[order], prepend=-1, append=-1))
        for begin, end in pairwise(bounds):
            areas[area_of_hole[order[begin]]].rings.append(self._taken(holes[order[begin:end]]))
        return areas

    def _taken(self, chains: NDArray[np.int64]) -> _Rings:
        """Return the corners of some chains, one after the other."""
        first = self.first_corner[chains]
        lengths = self.first_corner[chains + 1] - first
        return _Rings(self.corners[ranges(first, lengths)], lengths)


def _flat(pieces: _Pieces) -> Corners:
    """Put the pieces of an outline together; they may be nested as deep as there are strips."""
    found: list[Corners] = []
    waiting = [iter(pieces)]
    while waiting:
        for piece in waiting[-1]:
            if isinstance(piece, list):
                waiting.append(iter(piece))
                break
            found.append(piece)
        else:
            waiting.pop()
    return np.concatenate(found)


def _outlines(
    rings: _Rings, area_of_ring: NDArray[np.int64], label: NDArray[Any], columns: int
) -> Outlines:
    """Turn the rings of whole areas into polygons, each in its one valid and ordered form."""
    rings, area = _simple(rings, area_of_ring, columns)
    column, row = rings.corners[:, 0] >> 1, rings.corners[:, 1]
    first = np.cumsum(rings.lengths) - rings.lengths
    ring_of_corner = np.repeat(np.arange(len(first)), rings.lengths)
    after = np.arange(1, len(column) + 1)
    after[first + rings.lengths - 1] = first
    # Twice the area would be a sum over triangles; sides are upright or level.
    downwards = (row[after] - row).astype(np.int64) * column
    size = np.add.reduceat(downwards, first)
    along = np.int64(columns + 1)
    place = row * along + column
    begin = np.minimum.reduceat(place, first)
    lowest = np.maximum.reduceat(row * along - column, first)
    last_row = -(-lowest // along)
    end_of_ring = 2 * last_row * along - lowest  # by row, then by the first column there
    is_outline = size > 0
    _, polygon = np.unique(area, return_inverse=True)
    end = np.empty(int(is_outline.sum()), np.int64)
    assert np.array_equal(np.sort(polygon[is_outline]), np.arange(len(end)))
    end[polygon[is_outline]] = end_of_ring[is_outline]
    order = np.lexsort((begin, ~is_outline, end[polygon]))
    turn = np.flatnonzero(place == begin[ring_of_corner]) - first
    lengths = rings.lengths[order] + 1
    ring_offsets = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(ring_offsets[-1]) - np.repeat(ring_offsets[:-1], lengths)
    within += np.repeat(turn[order], lengths)
    round_ = np.repeat(rings.lengths[order], lengths)
    within = np.where(within >= round_, within - round_, within)
    taken = np.repeat(first[order], lengths) + within
    corners = np.stack([column[taken], row[taken]], axis=1).astype(np.float64)
    outline_places = np.flatnonzero(is_outline[order])
    pixels = np.add.reduceat(size[order], outline_places)
    return Outlines(
        label[area[order[outline_places]]],
        pixels,
        corners,
        ring_offsets,
        np.append(outline_places, len(order)),
    )


def _simple(
    rings: _Rings, area_of_ring: NDArray[np.int64], columns: int
) -> tuple[_Rings, NDArray[np.int64]]:
    """Cut each ring where it touches itself, so that none does.

    Where it comes to a corner for the second time, what lies between is a ring of its own. These
    lie inside each other and never cross, as the ring does not.
    """
    ring = np.repeat(np.arange(len(rings.lengths)), rings.lengths)
    touching = np.flatnonzero(rings.corners[:, 0] & 1)
    column, row = rings.corners[touching, 0] >> 1, rings.corners[touching, 1].astype(np.int64)
    place = row * (columns + 1) + column
    order = np.lexsort((place, ring[touching]))
    touching, place, of = touching[order], place[order], ring[touching[order]]
    twice = np.flatnonzero((place[1:] == place[:-1]) & (of[1:] == of[:-1]))
    if len(twice) == 0:
        return rings, area_of_ring
    opens, closes = touching[twice] + 1, touching[twice + 1] + 1
    begins = np.zeros(len(ring) + 1, np.int32)
    begins[opens] = 1
    depth = begins.copy()
    depth[closes] -= 1
    depth = np.cumsum(depth[:-1])
    begins[:-1][np.diff(ring, prepend=-1) != 0] = 1
    order = np.argsort(depth, kind="stable")
    starts = np.flatnonzero(begins[order])
    lengths = np.diff(starts, append=len(order))
    return _Rings(rings.corners[order], lengths), area_of_ring[ring[order[starts]]]
