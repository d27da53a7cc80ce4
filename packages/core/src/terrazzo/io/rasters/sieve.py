"""Small patches of a map given to a neighbour, from rows that come a strip at a time.

The rule is that of GDAL's sieve filter: a patch that is too small takes the label of its largest
neighbour, or, where that is too small as well, of the largest neighbour of that one, and so on.
Patches that find none large enough stay. Of neighbours of one size the one that begins first, in
the order of pixels, counts as larger; so the result depends on the map alone.

The rows are looked at twice before they can be changed: sizes are known only in the end. Memory
holds a strip and some numbers for each patch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terrazzo.io.rasters.pixel_runs import Runs, components, ranges, runs_of, strips_of

Groups = Callable[[], Iterable[NDArray[np.integer]]]
"""Gives the rows of a map from the first to the last, as often as it is called."""

SizeOfRuns = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.int64]]
"""Size of runs, by their rows, first columns and the columns after their last ones. Whole numbers,
so that sums do not depend on their order."""


def sieved(
    groups: Groups,
    nodata: int,
    least: int,
    *,
    connectivity: Literal[4, 8] = 4,
    size_of_runs: SizeOfRuns | None = None,
) -> Groups:
    """Return the map without small patches, grouped as it came.

    Args:
        groups: labels R×W; read twice at once, and again when the result is.
        nodata: label of pixels that belong to no patch, and that take none in.
        least: size of the smallest patch that stays.
        connectivity: 4: pixels of a patch share a side; 8: or a corner. So for neighbours.
        size_of_runs: what the size of a patch is the sum of, where it is told if it stays; None:
            of pixels. Of neighbours the one of most pixels is the largest.
    """
    patches = _Patches.of(groups, nodata, connectivity, size_of_runs)
    label_of_patch = patches.labels[_takers(patches, groups, nodata, connectivity, least)]

    def changed() -> Iterator[NDArray[np.integer]]:
        rows: deque[int] = deque()
        strips = _numbered(_noted(groups(), rows), nodata, connectivity)
        return _grouped((_changed(strip, label_of_patch) for strip in strips), rows)

    return changed


def _noted(
    groups: Iterable[NDArray[np.integer]], rows: deque[int]
) -> Iterator[NDArray[np.integer]]:
    for group_RW in groups:
        rows.append(len(group_RW))
        yield group_RW


def _grouped(
    strips: Iterable[NDArray[np.integer]], rows: deque[int]
) -> Iterator[NDArray[np.integer]]:
    """Put strips together to groups of as many rows as were noted."""
    waiting: list[NDArray[np.integer]] = []
    for strip_RW in strips:
        waiting.append(strip_RW)
        if sum(map(len, waiting)) == rows[0]:
            rows.popleft()
            yield np.concatenate(waiting)
            waiting = []


def _changed(strip: _NumberedStrip, label_of_patch: NDArray[Any]) -> NDArray[np.integer]:
    runs, new = strip.runs, strip.first_new
    labels_RW = strip.labels_RW[strip.context :].copy()
    label_of_run = label_of_patch[strip.patch[new:]]
    differs = label_of_run != runs.label[new:]
    some = np.flatnonzero(differs) + new
    lengths = runs.stop[some] - runs.start[some]
    first = (runs.row[some] - strip.context) * np.int64(labels_RW.shape[1]) + runs.start[some]
    labels_RW.reshape(-1)[ranges(first, lengths)] = np.repeat(label_of_run[differs], lengths)
    return labels_RW


@dataclass(frozen=True, slots=True)
class _NumberedStrip:
    """Some rows below the last one before them, with the patch of each run.

    Attributes:
        labels_RW: with that row.
        context: 1 where there is such a row, else 0.
        first_row: of `labels_RW` in the map.
        runs: that have a label.
        patch: of each run: a number, or one of several that turn out to be one patch.
        same: N×2 numbers of one patch.
        first_new: the first run that is not in that row.
        patches: how many numbers there are so far.
    """

    labels_RW: NDArray[Any]
    context: int
    first_row: int
    runs: Runs
    patch: NDArray[np.int64]
    same: NDArray[np.int64]
    first_new: int
    patches: int


def _numbered(
    groups: Iterable[NDArray[np.integer]], nodata: int, connectivity: int
) -> Iterator[_NumberedStrip]:
    """Number the patches in the order of their first pixels, strip by strip."""
    last_row: NDArray[Any] | None = None
    above = np.empty(0, np.int64)
    patches = row = 0
    for strip_RW in strips_of(groups):
        context = 0 if last_row is None else 1
        labels_RW = strip_RW if last_row is None else np.concatenate([last_row, strip_RW])
        every = runs_of(labels_RW)
        runs = every.only(every.label != nodata)
        ones, others = _touching(runs, connectivity)
        alike = runs.label[ones] == runs.label[others]
        least = components(len(runs), ones[alike], others[alike])
        # Runs of the row above come first, so a patch that reaches it is known by one of them.
        is_new = least == np.arange(len(runs))
        is_new[: len(above)] = False
        number = np.cumsum(is_new) - 1 + patches
        number[: len(above)] = above
        patch = number[least]
        same = np.stack([above, patch[: len(above)]], axis=1)
        patches += int(is_new.sum())
        yield _NumberedStrip(
            labels_RW,
            context,
            row - context,
            runs,
            patch,
            same[same[:, 0] != same[:, 1]],
            len(above),
            patches,
        )
        row += len(strip_RW)
        last_row = labels_RW[-1:].copy()
        above = patch[np.searchsorted(runs.row, len(labels_RW) - 1) :]


def _touching(runs: Runs, connectivity: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of runs in rows below each other that touch."""
    upper, lower = runs.upper.astype(np.int64), runs.lower.astype(np.int64)
    if connectivity == 4:
        return upper, lower
    ones, others = [upper], [lower]
    # Two runs meet at a corner where one ends and the other, in the next row, begins.
    width = np.int64(runs.stop.max(initial=0)) + 1
    begins = runs.row * width + runs.start
    for step, (one, other) in ((1, (0, 1)), (-1, (1, 0))):
        wanted = (runs.row + step) * width + runs.stop
        place = np.minimum(np.searchsorted(begins, wanted), max(len(begins) - 1, 0))
        found = np.flatnonzero(begins[place] == wanted) if len(begins) else place
        pair = (found, place[found])
        ones.append(pair[one])
        others.append(pair[other])
    return np.concatenate(ones), np.concatenate(others)


@dataclass(frozen=True, slots=True)
class _Patches:
    """N numbers of patches; of several for one patch the least is its own.

    Attributes:
        own: number of each one's patch.
        pixels: of the patches, at their own numbers.
        sizes: likewise.
        labels: likewise.
    """

    own: NDArray[np.int64]
    pixels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[Any]

    @classmethod
    def of(
        cls, groups: Groups, nodata: int, connectivity: int, size_of_runs: SizeOfRuns | None
    ) -> _Patches:
        """Look at all rows."""
        pixels, sizes = _Growing(np.dtype(np.int64)), _Growing(np.dtype(np.int64))
        labels: _Growing | None = None
        same = [np.empty((0, 2), np.int64)]
        for strip in _numbered(groups(), nodata, connectivity):
            runs, new = strip.runs, strip.first_new
            if labels is None:
                labels = _Growing(strip.labels_RW.dtype)
            labels.to(strip.patches)[strip.patch] = runs.label
            some = (strip.first_row + runs.row[new:], runs.start[new:], runs.stop[new:])
            np.add.at(pixels.to(strip.patches), strip.patch[new:], some[2] - some[1])
            if size_of_runs is not None:
                np.add.at(sizes.to(strip.patches), strip.patch[new:], size_of_runs(*some))
            same.append(strip.same)
        assert labels is not None
        links = np.concatenate(same)
        own = components(pixels.length, links[:, 0], links[:, 1])
        summed = np.zeros((2, pixels.length), np.int64)
        np.add.at(summed[0], own, pixels.to(pixels.length))
        if size_of_runs is not None:
            np.add.at(summed[1], own, sizes.to(pixels.length))
        size = summed[0] if size_of_runs is None else summed[1]
        return cls(own, summed[0], size, labels.to(labels.length))


class _Growing:
    """An array that grows."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.values, self.length = np.zeros(1024, dtype), 0

    def to(self, length: int) -> NDArray[Any]:
        """Return it with this length; what is new is 0."""
        if length > len(self.values):
            grown = np.zeros(max(length, 2 * len(self.values)), self.values.dtype)
            grown[: self.length] = self.values[: self.length]
            self.values = grown
        self.length = length
        return self.values[:length]


def _takers(
    patches: _Patches, groups: Groups, nodata: int, connectivity: int, least: int
) -> NDArray[np.int64]:
    """Return for each number the patch whose label it takes."""
    is_small = patches.sizes < least
    best = np.full(len(patches.own), -1)
    for strip in _numbered(groups(), nodata, connectivity):
        pairs = _beside(strip, connectivity)
        ones, others = (patches.own[strip.patch[each]] for each in pairs)
        for one, other in ((ones, others), (others, ones)):
            counts = is_small[one] & (one != other)
            _keep_largest(best, one[counts], other[counts], patches.pixels)
    taker = np.where(is_small & (best >= 0), best, np.arange(len(best)))
    for _ in range(len(best).bit_length()):
        # Patches grow along the way, until one is large, or two small ones name each other.
        further = taker[taker]
        if np.array_equal(further, taker):
            break
        taker = further
    taker = np.where(is_small[taker], np.arange(len(best)), taker)
    return taker[patches.own]


def _beside(
    strip: _NumberedStrip, connectivity: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of runs that touch, those in one row too."""
    runs = strip.runs
    left = np.flatnonzero((runs.row[:-1] == runs.row[1:]) & (runs.stop[:-1] == runs.start[1:]))
    ones, others = _touching(runs, connectivity)
    return np.concatenate([ones, left]), np.concatenate([others, left + 1])


def _keep_largest(
    best: NDArray[np.int64],
    patch: NDArray[np.int64],
    neighbour: NDArray[np.int64],
    pixels: NDArray[np.int64],
) -> None:
    """Put the largest neighbour of each patch into `best`, where it is larger than that there."""
    order = np.lexsort((neighbour, -pixels[neighbour], patch))
    patch, neighbour = patch[order], neighbour[order]
    is_first = np.diff(patch, prepend=-1) != 0
    patch, neighbour = patch[is_first], neighbour[is_first]
    before = best[patch]
    size, size_before = pixels[neighbour], np.where(before < 0, -1, pixels[before])
    better = (size > size_before) | ((size == size_before) & (neighbour < before))
    best[patch[better]] = neighbour[better]
